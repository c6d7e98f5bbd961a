"""The Optuna study as the only record of trials: what ran, what runs, what is still to do.

A *root* is a point the study means to evaluate; each of its attempts is an Optuna trial that
carries the root's number. Roots come in cohorts: all points of a cohort are proposed at once, from
the results of earlier cohorts alone. Proposals and pruning therefore do not depend on how many
workers there are or which of them is fastest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState
from pydantic import ValidationError

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.decrop.config import DecropConfig
from trainables.smoothing.noise import derive_seed
from tuning.study.attempts import TrialRecord, best_first, read_result
from tuning.study.database import DurableStudy
from tuning.study.ended import ABANDONED, Attempts
from tuning.study.identity import begin_or_check
from tuning.study.plan import Plan, Proposal
from tuning.study.points import Roots
from tuning.study.proposer import Proposer
from tuning.study.pruning import Pruner
from tuning.study.samplers import make_sampler

# How often a trial starts again that may have ended all others.
INTERRUPTIONS = 2


class Ledger:
    """The study of one setting, in any database Optuna knows.

    Of its roots the published point and those after the baselines are the `trials` of the plan.
    `run` names the run that a study in a shared database belongs to.

    Raises:
        ConfigError: when the study is another run's, or its search space was another one.
    """

    def __init__(
        self,
        url: str,
        name: str,
        space: SearchSpace,
        plan: Plan,
        rungs: tuple[int, ...],
        *,
        run: str = "",
        awaits_transfer: bool = False,
    ) -> None:
        self.name, self.space, self.plan, self.rungs = name, space, plan, rungs
        directions = [StudyDirection.MAXIMIZE] * (1 + plan.pareto)
        self._study = DurableStudy(url, name, directions)
        begin_or_check(self._study, run, space, plan.cohort)
        if not awaits_transfer:
            self.transfer([])
        self._roots = Roots(space, self._study.attributes["cohort"])
        self.baselines = self._roots.baselines
        self.roots = self.baselines + plan.trials - 1
        self._proposer = Proposer(directions)
        self._pruner = Pruner(plan.scheduler, rungs[:-1])
        self._asked: list[Proposal] = []
        self._ended = Attempts()
        self._running: set[int] = set()
        self._interruptions: Counter[int] = Counter()
        for trial in self._study.trials:
            self._take(trial)

    def reconcile(self) -> int:
        """Give up attempts that nobody works on any more; returns how many there were.

        Their roots are asked again, with the same hyperparameters, by the next `next_proposal`.
        """
        abandoned = sorted(self._running)
        for number in abandoned:
            self._abandon(number, "the run was interrupted")
        self._asked.clear()
        return len(abandoned)

    def interrupt(self, number: int, reason: str) -> None:
        """Give up an attempt that may not be to blame for its end.

        A root to which that happens again and again fails, for that `reason`.
        """
        root = self._study.trials[number].user_attrs["root"]
        self._interruptions[root] += 1
        if self._interruptions[root] > INTERRUPTIONS:
            result = {**read_result(self._study.trials[number]), "error": reason}
            self._end(number, TrialState.FAIL, None, result)
        else:
            self._abandon(number, reason)

    def interrupt_all(self, reason: str) -> None:
        """As `interrupt`, for all that run."""
        asked = {proposal.number for proposal in self._asked}
        for number in sorted(self._running - asked):
            self.interrupt(number, reason)
        self.reconcile()

    def transfer(self, points: Sequence[Mapping[str, Value]]) -> None:
        """Evaluate the hyperparameters `points` of another setting before any proposal.

        Only the first call counts: a resumed study keeps what it was given.
        """
        if "transferred" not in self._study.attributes:
            self._study.set_attribute("transferred", [dict(point) for point in points])

    @property
    def study(self) -> optuna.Study:
        """The Optuna study, for reading."""
        return self._study.view

    @property
    def cohort(self) -> int:
        """How many trials are proposed together."""
        return self._roots.cohort

    @property
    def finished(self) -> bool:
        """Whether every root has its result."""
        return self.open_roots == 0

    @property
    def open_roots(self) -> int:
        """How many roots have no result yet."""
        return self.roots - len(self._ended.settled)

    @property
    def started(self) -> int:
        """How many trials run now."""
        return len(self._running) - len(self._asked)

    @property
    def baselines_finished(self) -> bool:
        """Whether the published point and the sweeps of plain denoising have their results."""
        return all(root in self._ended.settled for root in range(self.baselines))

    @property
    def seconds(self) -> float:
        """Seconds that workers spent on all attempts so far, the interrupted ones included."""
        trials = self._study.trials
        return self._ended.seconds + sum(_seconds(trials[number]) for number in self._running)

    def next_proposal(self) -> Proposal | None:
        """The next trial to run, or None while there is none: wait, unless `finished`."""
        if not self._asked and not self._running:
            self._open_cohort()
        return self._asked.pop(0) if self._asked else None

    def report(self, number: int, epochs: int, objective: float, seconds: float) -> bool:
        """Record an intermediate result; True when the trial should be pruned there."""
        if not math.isfinite(objective):
            return False
        self._study.report(number, epochs, objective, {"seconds": seconds})
        root = self._study.trials[number].user_attrs["root"]
        return self._pruner.stops(root, self._roots.cohort_of(root), epochs, objective)

    def tell(
        self,
        number: int,
        *,
        objective: float | None,
        epochs: int,
        complete: bool,
        seconds: float,
        node: str,
        accuracy: float | None = None,
        error: str = "",
        restarts: int = 0,
        restarted: str = "",
    ) -> None:
        """Close a trial: complete, pruned, or failed when it has an error or no finite score.

        The clean `accuracy` is one of the values of a complete trial of a Pareto search. The trial
        went on in another worker `restarts` times, `restarted` being why it had to.
        """
        if objective is None or not math.isfinite(objective):
            error = error or f"objective is {objective}"
        state = TrialState.FAIL if error else TrialState.PRUNED
        if complete and not error:
            state = TrialState.COMPLETE
        scores = [objective, accuracy] if self.plan.pareto else [objective]
        values = [s for s in scores if s is not None] if state == TrialState.COMPLETE else None
        result: dict[str, Any] = {
            "epochs": epochs,
            "seconds": seconds,
            "node": node,
            "error": error,
        }
        if not error:
            result["accuracy"] = accuracy
        if restarts:
            result |= {"restarts": restarts, "restarted": restarted}
        self._end(number, state, values, result)

    def best(self, count: int) -> list[dict[str, Value]]:
        """Hyperparameters of the `count` best complete trials of the search, best first."""
        searched = [r for r in self._ended.records if not r.is_baseline]
        return [r.hyperparameters for r in best_first(searched, self.plan.pareto)[:count]]

    @property
    def highest(self) -> float | None:
        """The objective of the best complete trial, if there is one."""
        return self._ended.highest

    @property
    def latest(self) -> TrialRecord:
        """The attempt that ended last."""
        return self._ended.records[-1]

    def records(self) -> list[TrialRecord]:
        """Every finished attempt, in order of number."""
        return sorted(self._ended.records, key=lambda record: record.number)

    def _abandon(self, number: int, reason: str) -> None:
        result = read_result(self._study.trials[number])
        self._end(number, TrialState.FAIL, None, {**result, "error": ABANDONED + reason})

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
        """Keep account of a trial as it is now in the study."""
        if not trial.state.is_finished():
            self._running.add(trial.number)
        elif self._ended.take(trial):
            cohort = self._roots.cohort_of(trial.user_attrs["root"])
            for rung, value in trial.intermediate_values.items():
                self._pruner.record(cohort, rung, value)

    def _open_cohort(self) -> None:
        """Ask for every open root of the first cohort that has one."""
        settled = self._ended.settled
        missing = [root for root in range(self.roots) if root not in settled]
        if not missing:
            return
        cohort = self._roots.cohort_of(missing[0])
        if cohort and "transferred" not in self._study.attributes:
            return
        members = self._roots.members(cohort)
        self._proposer.learn([settled[root] for root in range(members.start)])
        for root in range(members.start, min(members.stop, self.roots)):
            abandoned = self._ended.abandoned(root)
            known = settled.get(root) or next(iter(abandoned), None)
            if known is None:
                known = self._propose(root)
            elif root == self._proposer.next_root:
                self._proposer.recall(known)
            if root not in settled:
                self._start(known, abandoned)

    def _propose(self, root: int) -> FrozenTrial:
        plan = self.plan
        # One sampler per root, so that a resumed study proposes what an undisturbed one would.
        seed = derive_seed(plan.seed, "sampler", root) % 2**32
        transferred = self._study.attributes.get("transferred", ())
        origin, point = self._roots.known(root, transferred)

        def suggest(trial: Trial) -> dict[str, Any]:
            return {
                "root": root,
                "origin": origin,
                "seed": derive_seed(plan.seed, "trial", root),
                "hyperparameters": self.space.suggest(trial) | self._roots.held(root),
            }

        sampler = make_sampler(plan.sampler, seed, self.space, plan.pareto)
        return self._proposer.propose(sampler, point, suggest)

    def _start(self, proposed: FrozenTrial, abandoned: Sequence[FrozenTrial]) -> None:
        """Start an attempt at a root that goes on from those that were `abandoned`."""
        trial = self._study.start(proposed)
        self._take(trial)
        attributes = trial.user_attrs
        try:
            DecropConfig.model_validate(attributes["hyperparameters"])
        except ValidationError as error:
            # Values that are valid each, but not together.
            message = error.errors()[0]["msg"].removeprefix("Value error, ")
            self._end(trial.number, TrialState.FAIL, None, {"error": message})
            return
        if not self._carry_over(trial.number, abandoned):
            seed, hyperparameters = attributes["seed"], attributes["hyperparameters"]
            numbers = tuple(attempt.number for attempt in abandoned)
            self._asked.append(Proposal(trial.number, seed, hyperparameters, numbers))

    def _carry_over(self, number: int, abandoned: Sequence[FrozenTrial]) -> bool:
        """Report what abandoned attempts had reported; True if that ends the trial at once."""
        values = {rung: v for a in abandoned for rung, v in a.intermediate_values.items()}
        for rung, value in sorted(values.items()):
            if self.report(number, rung, value, 0.0):
                # It was to be pruned when the run was interrupted.
                result = {"epochs": rung, "seconds": 0.0, "node": "", "error": ""}
                self._end(number, TrialState.PRUNED, None, result)
                return True
        return False


def _seconds(trial: FrozenTrial) -> float:
    return float(read_result(trial).get("seconds", 0.0))
