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
from tuning.study.clock import Clock
from tuning.study.database import DurableStudy, StudyError, begin_or_check
from tuning.study.points import Plan, Points, Proposal, label_of
from tuning.study.proposer import Proposer
from tuning.study.pruning import Pruner
from tuning.study.schedule import Schedule

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
    `report`          running, with one more value          continues, is to be pruned, or
                                                            waits for earlier points
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
        ConfigError: when the study belongs to a different run or a different version, or its search
            space was different.
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
        or_zero = [n for n, parameter in space.parameters.items() if parameter.or_zero]
        self._study = DurableStudy(url, name, directions, or_zero)
        begin_or_check(self._study, run, space, plan.virtual_workers)
        self._study.name_objectives([plan.objective, "clean accuracy"][: len(directions)])
        if not plan.awaits_transfer:
            self.transfer([])
        self.points = Points(space, plan.trials)
        clock = Clock(self._study.attributes["virtual_workers"])
        pruner = Pruner(plan.scheduler, rungs[:-1], self.points.baselines)
        self._schedule = Schedule(clock, pruner, rungs)
        self._proposer = Proposer(self.points, plan, directions, clock, rungs)
        # By point: the attempt that brought its result, or the latest one.
        self._latest: dict[int, FrozenTrial] = {}
        self._running: set[int] = set()
        self._interrupted: set[int] = set()
        self._interruptions: Counter[int] = Counter()
        self._closed = False
        self._restore()

    def transfer(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Evaluate the hyperparameters `points` of a different setting before any proposal.

        Only the first call counts: a resumed study keeps what it was given.
        """
        if "transferred" not in self._study.attributes:
            self._study.set_attribute("transferred", [dict(point) for point in points])

    def next_proposal(self) -> Proposal | None:
        """The next trial to run; None if there is none now: wait, unless `finished`."""
        while (root := self._next_root()) is not None:
            proposal = self._start(root)
            if proposal is not None:
                return proposal
        return None

    def report(self, number: int, epochs: int, objective: float, seconds: float) -> bool | None:
        """Record an intermediate result; True when the trial is to be pruned there.

        None means that it must wait until earlier points have come as far: `decision` tells when
        they have.
        """
        if not math.isfinite(objective):
            return False
        root = self._root(number)
        counted = self._schedule.first_value(root, epochs, objective)
        self._study.report(number, epochs, counted, {"seconds": seconds})
        self._schedule.report(root, epochs, counted)
        return self._schedule.decision(root)

    def decision(self, number: int) -> bool | None:
        """Whether a trial is to be pruned where it reported last; None if that is not yet known."""
        return self._schedule.decision(self._root(number))

    def close(self) -> None:
        """Propose nothing but the baselines any more, and decide by what is known already."""
        self._closed = True
        self._schedule.hurry()

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
        root = self._root(number)
        self._interruptions[root] += 1
        self._fail(number, reason, again=self._interruptions[root] <= INTERRUPTIONS)

    def interrupt_all(self, reason: str) -> None:
        """Interrupt all running attempts, and give up those that wait at a rung."""
        for number in sorted(self._running):
            if self.decision(number) is not None:
                self.interrupt(number, reason)
        self.reconcile()

    def reconcile(self) -> int:
        """Give up attempts that no worker is running; returns how many there were."""
        abandoned = sorted(self._running)
        for number in abandoned:
            self._fail(number, "the run was interrupted", again=True)
        return len(abandoned)

    def note(self, text: str) -> None:
        """Give the study a note in Markdown, which optuna-dashboard shows."""
        self._study.note(text)

    @property
    def study(self) -> optuna.Study:
        """The Optuna study, for reading, with parameters as the sampler sees them."""
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
    def exhausted(self) -> bool:
        """Whether nothing more will be proposed, unless an attempt is interrupted."""
        most = self._most
        return len(self._schedule.clock) >= most and all(r >= most for r in self._interrupted)

    @property
    def baselines_finished(self) -> bool:
        """Whether the published point and the sweeps of plain denoising have their results."""
        return all(root in self.attempts.settled for root in range(self.points.baselines))

    @property
    def started(self) -> int:
        """How many trials have started and not ended."""
        return len(self._running)

    @property
    def seconds(self) -> float:
        """Seconds that workers spent on all attempts so far, the interrupted ones included."""
        running = (read_result(self._study.trials[number]) for number in self._running)
        return self.attempts.seconds + sum(float(found.get("seconds", 0.0)) for found in running)

    @property
    def _most(self) -> int:
        """How many points there are to work on."""
        return self.points.baselines if self._closed else len(self.points)

    def _next_root(self) -> int | None:
        """The next point to work on: one that was interrupted, or a new one."""
        most = self._most
        # One that stopped at a rung must not continue before it is known that it may.
        ready = (
            r for r in self._interrupted if r < most and self._schedule.decision(r) is not None
        )
        if (interrupted := min(ready, default=None)) is not None:
            return interrupted
        root = len(self._schedule.clock)
        if "transferred" not in self._study.attributes:
            most = min(most, self.points.baselines)
        known = root < most and self._schedule.clock.next_start() is not None
        return root if known else None

    def _start(self, root: int) -> Proposal | None:
        """Start an attempt at a point; None if it ends at once."""
        known = self._latest.get(root)
        transferred = self._study.attributes.get("transferred", ())
        proposed = self._proposer.propose(transferred, self._latest) if known is None else known
        trial = self._study.start(proposed)
        number = trial.number
        if known is None:
            self._schedule.begin(trial.user_attrs["durations"])
        self._latest[root] = trial
        self._interrupted.discard(root)
        self._running.add(number)
        try:
            hyperparameters = read_hyperparameters(trial)
        except ValidationError as error:
            # Values that are valid one by one, but not together.
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            self._end(number, TrialState.FAIL, None, {"error": message})
            return None
        abandoned = self.attempts.abandoned(root)
        if self._carry_over(number, abandoned):
            return None
        earlier = tuple(attempt.number for attempt in abandoned)
        label = label_of(root, trial.user_attrs["origin"])
        return Proposal(number, trial.user_attrs["seed"], hyperparameters, label, earlier)

    def _carry_over(self, number: int, abandoned: Sequence[FrozenTrial]) -> bool:
        """Report what abandoned attempts had reported; True if that ends the trial at once."""
        values = {rung: v for a in abandoned for rung, v in a.intermediate_values.items()}
        for rung in sorted(values):
            self.report(number, rung, values[rung], 0.0)
        if not values or not self.decision(number):
            return False
        # It was to be pruned when the run was interrupted.
        last = max(values)
        result = TrialResult(values[last], last, seconds=0.0, node="")
        self._end(number, TrialState.PRUNED, None, result.stored())
        return True

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
        trial = self._study.tell(number, state, values, result)
        root = self._root(number)
        if self.attempts.take(trial):
            self._schedule.end(root, trial)
        else:
            self._interrupted.add(root)

    def _restore(self) -> None:
        """Take the study up where it was left, with all that follows from its results."""
        attempts: dict[int, list[FrozenTrial]] = {}
        for trial in self._study.trials:
            attempts.setdefault(trial.user_attrs["root"], []).append(trial)
            if not trial.state.is_finished():
                self._running.add(trial.number)
            else:
                self.attempts.take(trial)
        for root in range(len(attempts)):
            if root not in attempts or self._schedule.clock.next_start() is None:
                name = self._study.name
                raise StudyError(f"the study {name}: its trials contradict each other")
            self._schedule.begin(attempts[root][0].user_attrs["durations"])
            self._latest[root] = self.attempts.settled.get(root, attempts[root][-1])
            for trial in attempts[root]:
                for rung, value in sorted(trial.intermediate_values.items()):
                    self._schedule.report(root, rung, value)
            if root in self.attempts.settled:
                self._schedule.end(root, self._latest[root])
            elif attempts[root][-1].number not in self._running:
                self._interrupted.add(root)
        # Those were told before.
        self.attempts.untold()

    def _root(self, number: int) -> int:
        root: int = self._study.trials[number].user_attrs["root"]
        return root
