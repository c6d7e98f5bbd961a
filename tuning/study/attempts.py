"""Attempts at points: the record of each, and an account of all that have ended."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from pydantic import ValidationError

from search_spaces.space import Value
from trainables.decrop.config import BASELINES, DecropConfig
from tuning.study.database import RESULT
from tuning.study.pareto import by_rank
from tuning.study.points import PUBLISHED_SIGMA, label_of

# The error of an attempt whose point is to be tried again begins with this.
ABANDONED = "abandoned: "
STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class TrialResult:
    """How an attempt ended, as reported by its worker.

    `objective` and the clean `accuracy` are from its last rung, after `epochs` epochs. It continued
    in a new worker `restarts` times; `restarted` is the reason for the last time.
    """

    objective: float | None
    epochs: int
    seconds: float
    node: str
    accuracy: float | None = None
    error: str = ""
    restarts: int = 0
    restarted: str = ""

    @property
    def failure(self) -> str:
        """Why the attempt failed: its error, or a score that is not finite. Empty if it did not."""
        if self.error or (self.objective is not None and math.isfinite(self.objective)):
            return self.error
        return f"objective is {self.objective}"

    def stored(self) -> dict[str, Any]:
        """What the study keeps beside the values of the trial."""
        kept: dict[str, Any] = {
            "epochs": self.epochs,
            "seconds": self.seconds,
            "node": self.node,
            "error": self.failure,
        }
        if self.accuracy is not None and not self.failure:
            kept["accuracy"] = self.accuracy
        if self.restarts:
            kept |= {"restarts": self.restarts, "restarted": self.restarted}
        return kept


@dataclass(frozen=True)
class TrialRecord:
    """One attempt at a point, with what the results need.

    `objective` and the clean `accuracy` are from the last rung that it reached. `restarts` is how
    often it continued in a new worker; `error` then says why.
    """

    number: int
    root: int
    origin: str
    state: str
    hyperparameters: DecropConfig
    objective: float | None
    accuracy: float | None
    epochs: int
    seconds: float
    seed: int
    node: str
    error: str
    restarts: int

    @property
    def is_baseline(self) -> bool:
        """Whether this is a point that every study evaluates to compare the search with."""
        return self.origin in {"published", PUBLISHED_SIGMA, *BASELINES}

    @property
    def label(self) -> str:
        """What people call its point."""
        return label_of(self.root, self.origin)


class Attempts:
    """An account of the attempts that have ended, kept as they end.

    `highest` is the objective of the best complete one, if there is one. `seconds` is what workers
    spent on them, the interrupted ones included. `settled` holds, for each point that has its
    result, the attempt that brought it.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.highest: float | None = None
        self.settled: dict[int, FrozenTrial] = {}
        self._ended: list[TrialRecord] = []
        self._told = 0
        self._abandoned: dict[int, list[FrozenTrial]] = {}

    def take(self, trial: FrozenTrial) -> bool:
        """Add an attempt that has ended; returns whether it settles its point."""
        root, record = trial.user_attrs["root"], read_record(trial)
        self._ended.append(record)
        self.seconds += record.seconds
        if trial.state == TrialState.COMPLETE:
            self.highest = max(trial.values[0], -math.inf if self.highest is None else self.highest)
        if read_result(trial).get("error", "").startswith(ABANDONED):
            self._abandoned.setdefault(root, []).insert(0, trial)
            return False
        self.settled[root] = trial
        return True

    @property
    def latest(self) -> TrialRecord:
        """The attempt that ended last."""
        return self._ended[-1]

    def untold(self) -> list[TrialRecord]:
        """Those that ended since the last call, and settled their points."""
        new, self._told = self._ended[self._told :], len(self._ended)
        return [record for record in new if not record.error.startswith(ABANDONED)]

    def records(self) -> list[TrialRecord]:
        """Every attempt, in order of number."""
        return sorted(self._ended, key=lambda record: record.number)

    def abandoned(self, root: int) -> list[FrozenTrial]:
        """Attempts at a point that were given up, the latest first."""
        return list(self._abandoned.get(root, ()))

    def best(self, count: int, pareto: bool = False) -> list[dict[str, Value]]:
        """Hyperparameters of the `count` best complete trials of the search, best first.

        They are as the search space gave them: hyperparameters that it does not name are left out.
        """
        searched = best_first((r for r in self._ended if not r.is_baseline), pareto)
        return [self.settled[r.root].user_attrs["hyperparameters"] for r in searched[:count]]


def best_first(records: Iterable[TrialRecord], pareto: bool = False) -> list[TrialRecord]:
    """The complete records by their score in the search, the earlier point first if equal.

    With `pareto`, they are sorted by fronts of accuracy and objective.
    """
    complete = sorted((r for r in records if r.state == "complete"), key=lambda r: r.root)
    if pareto:
        return [
            complete[i] for i in by_rank([(r.accuracy or 0, r.objective or 0) for r in complete])
        ]
    return sorted(complete, key=lambda r: -(r.objective or 0.0))


def read_result(trial: FrozenTrial) -> Mapping[str, Any]:
    """The result of an attempt so far."""
    result: Mapping[str, Any] = trial.user_attrs.get(RESULT, {})
    return result


def read_hyperparameters(trial: FrozenTrial) -> DecropConfig:
    """The hyperparameters with which an attempt was proposed.

    Raises:
        ValidationError: for values that are valid one by one, but not together.
    """
    return DecropConfig.model_validate(trial.user_attrs["hyperparameters"])


def read_record(trial: FrozenTrial) -> TrialRecord:
    """An attempt as it is in the study."""
    attributes, result = trial.user_attrs, read_result(trial)
    values = trial.intermediate_values
    last = values[max(values)] if values else None
    try:
        hyperparameters = read_hyperparameters(trial)
    except ValidationError:
        if trial.state != TrialState.FAIL:
            raise
        # It failed because of them; the table shows them nevertheless.
        hyperparameters = DecropConfig.model_construct(**attributes["hyperparameters"])
    return TrialRecord(
        number=trial.number,
        root=attributes["root"],
        origin=attributes["origin"],
        state=STATES[trial.state],
        hyperparameters=hyperparameters,
        objective=trial.values[0] if trial.state == TrialState.COMPLETE else last,
        accuracy=result.get("accuracy"),
        epochs=result.get("epochs", max(values, default=0)),
        seconds=result.get("seconds", 0.0),
        seed=attributes["seed"],
        node=result.get("node", ""),
        error=result.get("error", "") or result.get("restarted", ""),
        restarts=result.get("restarts", 0),
    )
