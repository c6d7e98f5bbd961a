"""The attempts of a study that have ended: what became of each root, and what they cost."""

from __future__ import annotations

import math

from optuna.trial import FrozenTrial, TrialState

from tuning.study.attempts import TrialRecord, read_record, read_result

# How the error of an attempt begins that is to be repeated.
ABANDONED = "abandoned: "


class Attempts:
    """An account of ended attempts, kept as they end.

    `highest` is the objective of the best complete one, if there is one. `seconds` is what workers
    spent on them, the interrupted ones included.
    """

    def __init__(self) -> None:
        self.records: list[TrialRecord] = []
        self.seconds = 0.0
        self.highest: float | None = None
        # Of each root, the attempt that settled it.
        self.settled: dict[int, FrozenTrial] = {}
        self._abandoned: dict[int, list[FrozenTrial]] = {}

    def take(self, trial: FrozenTrial) -> bool:
        """Take in an attempt that has ended; whether it settles its root."""
        root, record = trial.user_attrs["root"], read_record(trial)
        self.records.append(record)
        self.seconds += record.seconds
        if trial.state == TrialState.COMPLETE:
            self.highest = max(trial.values[0], -math.inf if self.highest is None else self.highest)
        if read_result(trial).get("error", "").startswith(ABANDONED):
            self._abandoned.setdefault(root, []).insert(0, trial)
            return False
        self.settled[root] = trial
        return True

    def abandoned(self, root: int) -> list[FrozenTrial]:
        """Attempts at a root that were given up, the latest first."""
        return list(self._abandoned.get(root, ()))
