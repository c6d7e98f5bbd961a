"""The Optuna study as the only record of trials: what ran, what runs, what is still to do.

A *root* is a point the study means to evaluate; each of its attempts is an Optuna trial that
carries the root's number. Roots come in cohorts: all points of a cohort are proposed at once, from
the results of earlier cohorts alone. Proposals and pruning therefore do not depend on how many
workers there are or which of them is fastest.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from search_spaces import SearchSpace
from trainables.decrop.config import BASELINES
from trainables.smoothing.noise import derive_seed

# In the run folder.
FILE = "study.db"
ABANDONED = "abandoned: the run was interrupted"
REDUCTION_FACTOR = 3
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}


class Proposal(NamedTuple):
    """A trial to run: its number and seed, and a full set of hyperparameters."""

    number: int
    seed: int
    hyperparameters: dict[str, Any]


@dataclass(frozen=True)
class TrialRecord:
    """One attempt at a root, as the results need it."""

    number: int
    root: int
    origin: str
    state: str
    hyperparameters: dict[str, Any]
    objective: float | None
    epochs: int
    seconds: float
    seed: int
    node: str
    error: str


class Ledger:
    """The study of one setting, in any storage Optuna knows.

    Root 0 is the published point; then comes each kind of plain denoised smoothing at each of the
    sweep's sigmas; `trials - 1` proposals of the sampler follow.
    """

    def __init__(
        self, storage: str, name: str, space: SearchSpace, *, trials: int, cohort: int, seed: int
    ) -> None:
        self.space, self.seed = space, seed
        self._plain = [
            (name, {**weights, "sigma": sigma})
            for name, weights in BASELINES.items()
            for sigma in space.sweep
        ]
        self.baselines = 1 + len(self._plain)
        self.roots = self.baselines + trials - 1
        self.study = optuna.create_study(
            storage=storage, study_name=name, direction="maximize", load_if_exists=True
        )
        # The first start decides, so that a resumption on another machine proposes the same.
        if "cohort" not in self.study.user_attrs:
            self.study.set_user_attr("cohort", cohort)
        self.cohort: int = self.study.user_attrs["cohort"]
        self._asked: list[Proposal] = []
        self._running: dict[int, optuna.Trial] = {}

    def reconcile(self) -> int:
        """Give up attempts that a dead driver left running; returns how many there were.

        Their roots are asked again, with the same hyperparameters, by the next `next_proposal`.
        """
        self._asked.clear()
        self._running.clear()
        abandoned = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        for trial in abandoned:
            self.study._storage.set_trial_user_attr(trial._trial_id, "error", ABANDONED)
            self.study.tell(trial.number, state=TrialState.FAIL)
        return len(abandoned)

    @property
    def finished(self) -> bool:
        """Whether every root has its result."""
        return self.open_roots == 0

    @property
    def open_roots(self) -> int:
        """How many roots have no result yet."""
        return len(set(range(self.roots)) - self._settled().keys())

    @property
    def baselines_finished(self) -> bool:
        """Whether the published point and the sweeps of plain denoising have their results."""
        settled = self._settled()
        return all(root in settled for root in range(self.baselines))

    def next_proposal(self) -> Proposal | None:
        """The next trial to run, or None while there is none: wait, unless `finished`."""
        if not self._asked and not self._running:
            self._open_cohort()
        return self._asked.pop(0) if self._asked else None

    def report(self, number: int, epochs: int, objective: float) -> bool:
        """Record an intermediate result; True when the trial should be pruned there.

        Successive halving: at each rung a trial must be among the best third of the trials of
        earlier cohorts. Source: Li et al. 2020 (ASHA), Section 3, with the comparison limited to
        finished cohorts so that it does not depend on timing.
        """
        trial = self._running[number]
        trial.report(objective, epochs)
        cohort = self._cohort_of(trial.user_attrs["root"])
        earlier = [
            t.intermediate_values[epochs]
            for t in self._settled().values()
            if self._cohort_of(t.user_attrs["root"]) < cohort and epochs in t.intermediate_values
        ]
        if len(earlier) < REDUCTION_FACTOR:
            return False
        return objective < float(np.quantile(earlier, 1 - 1 / REDUCTION_FACTOR))

    def tell(
        self,
        number: int,
        *,
        objective: float | None,
        epochs: int,
        complete: bool,
        seconds: float,
        node: str,
        error: str = "",
    ) -> None:
        """Close a trial: complete, pruned, or failed when it has an error or no finite score."""
        trial = self._running.pop(number)
        if objective is None or not math.isfinite(objective):
            error = error or f"objective is {objective}"
        for key, value in {
            "epochs": epochs,
            "seconds": seconds,
            "node": node,
            "error": error,
        }.items():
            trial.set_user_attr(key, value)
        if error:
            self.study.tell(trial, state=TrialState.FAIL)
        elif complete:
            self.study.tell(trial, objective)
        else:
            self.study.tell(trial, state=TrialState.PRUNED)

    def records(self) -> list[TrialRecord]:
        """Every finished attempt, in order of number."""
        trials = self.study.get_trials(deepcopy=False)
        return [_record(t) for t in trials if t.state.is_finished()]

    def _settled(self) -> dict[int, FrozenTrial]:
        """The finished attempt of each root that needs no further one."""
        return {
            t.user_attrs["root"]: t
            for t in self.study.get_trials(deepcopy=False)
            if t.state.is_finished() and t.user_attrs.get("error") != ABANDONED
        }

    def _cohort_of(self, root: int) -> int:
        return 0 if root < self.baselines else 1 + (root - self.baselines) // self.cohort

    def _open_cohort(self) -> None:
        """Ask for every open root of the first cohort that has one."""
        settled = self._settled()
        missing = [root for root in range(self.roots) if root not in settled]
        if not missing:
            return
        cohort = self._cohort_of(missing[0])
        previous = {t.user_attrs["root"]: t for t in self.study.get_trials(deepcopy=False)}
        waiting = {r for r, t in previous.items() if t.state == TrialState.WAITING}
        for root in missing:
            if self._cohort_of(root) == cohort and root not in waiting:
                point = previous[root].params if root in previous else self._point(root)
                self.study.enqueue_trial(point, user_attrs=self._attributes(root))
        while queue := self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            self._ask(queue[0].user_attrs["root"])

    def _ask(self, root: int) -> None:
        # One sampler per root, so that a resumed study proposes what an undisturbed one would.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=derive_seed(self.seed, "sampler", root) % 2**32, constant_liar=True
        )
        trial = self.study.ask()
        hyperparameters = self.space.suggest(trial)
        if 0 < root < self.baselines:
            hyperparameters |= self._plain[root - 1][1]
        trial.set_user_attr("hyperparameters", hyperparameters)
        self._running[trial.number] = trial
        seed = trial.user_attrs["seed"]
        self._asked.append(Proposal(trial.number, seed, hyperparameters))

    def _point(self, root: int) -> dict[str, Any]:
        """What is known of a root's hyperparameters before the sampler is asked."""
        if root == 0:
            return dict(self.space.published_point())
        if root < self.baselines:
            return dict(self.space.nearest_point(self._plain[root - 1][1]))
        return {}

    def _attributes(self, root: int) -> dict[str, Any]:
        origin = "search"
        if root < self.baselines:
            origin = self._plain[root - 1][0] if root else "published"
        return {"root": root, "origin": origin, "seed": derive_seed(self.seed, "trial", root)}


def study_name(setting: str, space: SearchSpace) -> str:
    """A name that no other setting or space shares."""
    return f"{setting}-{space.fingerprint()}"


def sqlite_url(path: Path) -> str:
    """Optuna's storage URL for an SQLite file."""
    return f"sqlite:///{path}"


def _record(trial: FrozenTrial) -> TrialRecord:
    attributes: Mapping[str, Any] = trial.user_attrs
    values = trial.intermediate_values
    last = values[max(values)] if values else None
    return TrialRecord(
        number=trial.number,
        root=attributes["root"],
        origin=attributes["origin"],
        state=STATES[trial.state],
        hyperparameters=attributes.get("hyperparameters", {}),
        objective=trial.value if trial.state == TrialState.COMPLETE else last,
        epochs=attributes.get("epochs", max(values, default=0)),
        seconds=attributes.get("seconds", 0.0),
        seed=attributes["seed"],
        node=attributes.get("node", ""),
        error=attributes.get("error", ""),
    )
