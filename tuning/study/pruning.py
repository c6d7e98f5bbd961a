"""Which trials stop early: successive halving that does not depend on timing."""

from __future__ import annotations

import numpy as np

from tuning.study.choices import SchedulerName

REDUCTION_FACTOR = 3


class Pruner:
    """Compares a trial at a rung with the trials of earlier cohorts there.

    A trial continues if it is among the best third. Under `hyperband`, trials differ in turn in
    where they are first compared: at the first rung, at the second, ..., at none. Source: Li et al.
    2020 (ASHA), Section 3; Li et al. 2018 (Hyperband), Section 3. Only finished cohorts are
    compared with, so that pruning does not depend on the number of workers.
    """

    def __init__(self, scheduler: SchedulerName, rungs: tuple[int, ...]) -> None:
        self._scheduler, self._rungs = scheduler, rungs
        self._seen: dict[int, list[tuple[int, float]]] = {}

    def record(self, cohort: int, rung: int, value: float) -> None:
        """Remember the score of a trial of `cohort` at `rung`, for later cohorts."""
        self._seen.setdefault(rung, []).append((cohort, value))

    def stops(self, root: int, cohort: int, rung: int, value: float) -> bool:
        """Whether the trial ends here."""
        if self._scheduler == "none" or rung in self._spared(root):
            return False
        earlier = [v for c, v in self._seen.get(rung, ()) if c < cohort]
        if len(earlier) < REDUCTION_FACTOR:
            return False
        return value < float(np.quantile(earlier, 1 - 1 / REDUCTION_FACTOR))

    def _spared(self, root: int) -> tuple[int, ...]:
        """The rungs at which the trial is not compared."""
        if self._scheduler == "asha":
            return ()
        return self._rungs[: root % (len(self._rungs) + 1)]
