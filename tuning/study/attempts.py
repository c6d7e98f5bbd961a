"""What the study knows of each attempt at a trial."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from trainables.decrop.config import BASELINES
from tuning.study.database import RESULT
from tuning.study.pareto import by_rank

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class TrialRecord:
    """One attempt at a root, as the results need it.

    `accuracy` is the clean accuracy beside the `objective`; both are of the last rung it reached.
    `restarts` is how often it went on in another worker; `error` then says why it had to.
    """

    number: int
    root: int
    origin: str
    state: str
    hyperparameters: dict[str, Any]
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
        return self.origin == "published" or self.origin in BASELINES


def best_first(records: Iterable[TrialRecord], pareto: bool = False) -> list[TrialRecord]:
    """The complete ones, by their score in the search; of equals the first root.

    With `pareto`, by the fronts of accuracy and objective.
    """
    complete = sorted((r for r in records if r.state == "complete"), key=lambda r: r.root)
    if pareto:
        return [
            complete[i] for i in by_rank([(r.accuracy or 0, r.objective or 0) for r in complete])
        ]
    return sorted(complete, key=lambda r: -(r.objective or 0.0))


def read_result(trial: FrozenTrial) -> Mapping[str, Any]:
    """What came of an attempt so far."""
    result: Mapping[str, Any] = trial.user_attrs.get(RESULT, {})
    return result


def read_record(trial: FrozenTrial) -> TrialRecord:
    """An attempt as it is in the study."""
    attributes, result = trial.user_attrs, read_result(trial)
    values = trial.intermediate_values
    last = values[max(values)] if values else None
    return TrialRecord(
        number=trial.number,
        root=attributes["root"],
        origin=attributes["origin"],
        state=STATES[trial.state],
        hyperparameters=attributes["hyperparameters"],
        objective=trial.values[0] if trial.state == TrialState.COMPLETE else last,
        accuracy=result.get("accuracy"),
        epochs=result.get("epochs", max(values, default=0)),
        seconds=result.get("seconds", 0.0),
        seed=attributes["seed"],
        node=result.get("node", ""),
        error=result.get("error", "") or result.get("restarted", ""),
        restarts=result.get("restarts", 0),
    )
