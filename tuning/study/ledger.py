"""The Optuna study as the only record of trials: what has run, is running and is still to do."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from search_spaces import SearchSpace
from search_spaces.space import Value
from tuning.study.attempts import (
    ABANDONED,
    Attempts,
    TrialResult,
    read_hyperparameters,
    read_result,
)
from tuning.study.cohorts import Cohorts
from tuning.study.database import DurableStudy, begin_or_check
from tuning.study.points import Plan, Points, Proposal
from tuning.study.pruning import Pruner

# How often a point is tried again after it may have been the cause that ended all trials.
INTERRUPTIONS = 2


class Ledger:
    """The study of one setting, in any database Optuna knows.

    A point is what the study plans to evaluate; its number is its *root*. Each attempt at it is an
    Optuna trial that records the root. This is the life of a point:

    ================  ====================================  =============================
    call              the attempt in the study              the point
    ================  ====================================  =============================
    `next_proposal`   running                               is being worked on
    `report`          running, with one more value          continues, or is to be pruned
    `tell`            complete: it trained to the end       has its result
    `tell`            pruned: it ended at an earlier rung   has its result
    `tell`            failed: an error, or no finite score  has its result, which is none
    `interrupt`       failed, as abandoned                  open: the next proposal is the
                                                            same, and continues from there
    `interrupt`       failed, if it was interrupted before  has its result, which is none
                      INTERRUPTIONS times by this process
    `reconcile`       failed, as abandoned                  open, however often that happens
    ================  ====================================  =============================

    An attempt whose hyperparameters are not valid together fails before it is proposed.

    `run` names the run that a study in a shared database belongs to.

    Raises:
        ConfigError: when the study belongs to a different run, or its search space was different.
        StudyError: by each method that writes, when the database fails.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: SearchSpace,
        plan: Plan,
        rungs: tuple[int, ...],
        run: str = "",
    ) -> None:
        self.plan, self.rungs, self.attempts = plan, rungs, Attempts()
        one = StudyDirection.MAXIMIZE
        directions = [one, one] if plan.pareto else [one]
        self._study = DurableStudy(url, name, directions)
        begin_or_check(self._study, run, space, plan.cohort)
        if not plan.awaits_transfer:
            self.transfer([])
        self.points = Points(space, plan.trials, self._study.attributes["cohort"])
        self._cohorts = Cohorts(self.points, plan, directions)
        self._pruner = Pruner(plan.scheduler, rungs[:-1])
        self._asked: list[Proposal] = []
        self._running: set[int] = set()
        self._interruptions: Counter[int] = Counter()
        for trial in self._study.trials:
            self._take(trial)

    def transfer(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Evaluate the hyperparameters `points` of a different setting before any proposal.

        Only the first call counts: a resumed study keeps what it was given.
        """
        if "transferred" not in self._study.attributes:
            self._study.set_attribute("transferred", [dict(point) for point in points])

    def next_proposal(self) -> Proposal | None:
        """The next trial to run; None if there is none now: wait, unless `finished`."""
        if not self._asked and not self._running:
            transferred = self._study.attributes.get("transferred")
            for proposed, abandoned in self._cohorts.open(self.attempts, transferred):
                self._start(proposed, abandoned)
        return self._asked.pop(0) if self._asked else None

    def report(self, number: int, epochs: int, objective: float, seconds: float) -> bool:
        """Record an intermediate result; True when the trial should be pruned there."""
        if not math.isfinite(objective):
            return False
        self._study.report(number, epochs, objective, {"seconds": seconds})
        root = self._study.trials[number].user_attrs["root"]
        return self._pruner.stops(root, self.points.cohort_of(root), epochs, objective)

    def tell(self, number: int, result: TrialResult) -> None:
        """Close a trial that finished, failed or was pruned."""
        state, values = TrialState.PRUNED, None
        if result.failure:
            state = TrialState.FAIL
        elif result.epochs >= self.rungs[-1]:
            scores = [result.objective, result.accuracy] if self.plan.pareto else [result.objective]
            state, values = TrialState.COMPLETE, [score for score in scores if score is not None]
        self._end(number, state, values, result.stored())

    def interrupt(self, number: int, reason: str) -> None:
        """Give up an attempt that may not be to blame for its end."""
        root = self._study.trials[number].user_attrs["root"]
        self._interruptions[root] += 1
        self._fail(number, reason, again=self._interruptions[root] <= INTERRUPTIONS)

    def interrupt_all(self, reason: str) -> None:
        """Interrupt all running attempts, and give up those that have not been started."""
        asked = {proposal.number for proposal in self._asked}
        for number in sorted(self._running - asked):
            self.interrupt(number, reason)
        self.reconcile()

    def reconcile(self) -> int:
        """Give up attempts that no worker is running; returns how many there were."""
        abandoned = sorted(self._running)
        for number in abandoned:
            self._fail(number, "the run was interrupted", again=True)
        self._asked.clear()
        return len(abandoned)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study, for reading."""
        return self._study.view

    @property
    def open_points(self) -> int:
        """How many points have no result yet."""
        return len(self.points) - len(self.attempts.settled)

    @property
    def finished(self) -> bool:
        """Whether every point has its result."""
        return self.open_points == 0

    @property
    def baselines_finished(self) -> bool:
        """Whether the published point and the sweeps of plain denoising have their results."""
        return all(root in self.attempts.settled for root in range(self.points.baselines))

    @property
    def started(self) -> int:
        """How many trials run now."""
        return len(self._running) - len(self._asked)

    @property
    def seconds(self) -> float:
        """Seconds that workers spent on all attempts so far, the interrupted ones included."""
        running = (read_result(self._study.trials[number]) for number in self._running)
        return self.attempts.seconds + sum(float(found.get("seconds", 0.0)) for found in running)

    def _start(self, proposed: FrozenTrial, abandoned: Sequence[FrozenTrial]) -> None:
        """Start an attempt at a point that continues from the `abandoned` ones."""
        trial = self._study.start(proposed)
        self._take(trial)
        try:
            hyperparameters = read_hyperparameters(trial)
        except ValidationError as error:
            # Values that are valid one by one, but not together.
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            self._end(trial.number, TrialState.FAIL, None, {"error": message})
            return
        if not self._carry_over(trial.number, abandoned):
            numbers = tuple(attempt.number for attempt in abandoned)
            seed = trial.user_attrs["seed"]
            self._asked.append(Proposal(trial.number, seed, hyperparameters, numbers))

    def _carry_over(self, number: int, abandoned: Sequence[FrozenTrial]) -> bool:
        """Report what abandoned attempts had reported; True if that ends the trial at once."""
        values = {rung: v for a in abandoned for rung, v in a.intermediate_values.items()}
        for rung, value in sorted(values.items()):
            if self.report(number, rung, value, 0.0):
                # It was to be pruned when the run was interrupted.
                result = TrialResult(value, rung, seconds=0.0, node="")
                self._end(number, TrialState.PRUNED, None, result.stored())
                return True
        return False

    def _fail(self, number: int, reason: str, *, again: bool) -> None:
        """Close an attempt that was interrupted; its point is tried `again`, or has failed."""
        result = read_result(self._study.trials[number])
        error = ABANDONED + reason if again else reason
        self._end(number, TrialState.FAIL, None, {**result, "error": error})

    def _end(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        result: Mapping[str, Any],
    ) -> None:
        self._running.discard(number)
        self._take(self._study.tell(number, state, values, result))

    def _take(self, trial: FrozenTrial) -> None:
        """Account for a trial in its present state."""
        if not trial.state.is_finished():
            self._running.add(trial.number)
        elif self.attempts.take(trial):
            cohort = self.points.cohort_of(trial.user_attrs["root"])
            for rung, value in trial.intermediate_values.items():
                self._pruner.record(cohort, rung, value)
