"""Records of trials, without a study."""

from typing import Any

from trainables.decrop.config import DecropConfig
from tuning.study.attempts import TrialRecord


def record(
    number: int, origin: str = "search", objective: float = 0.5, **changes: Any
) -> TrialRecord:
    """A complete trial; `changes` are hyperparameters, its `state`, `error` or `accuracy`."""
    state, error = changes.pop("state", "complete"), changes.pop("error", "")
    accuracy = changes.pop("accuracy", 0.9)
    return TrialRecord(
        number, number, origin, state, DecropConfig(**changes), objective, accuracy,
        600, 1.0, 0, "n", error, 0,
    )  # fmt: skip
