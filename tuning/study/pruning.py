"""Which trials stop early: successive halving that does not depend on timing."""

from __future__ import annotations

import numpy as np

from tuning.study.choices import SchedulerName

REDUCTION_FACTOR = 3


class Pruner:
    """Compares a point at a rung with earlier points that reached it earlier.

    A point continues if it is among the best third. Under `hyperband`, points differ in turn in
    where they are first compared: at the first rung, at the second, ..., at none. Source: Li et al.
    2020 (ASHA), Section 3; Li et al. 2018 (Hyperband), Section 3. The first `spared` points are
    compared nowhere. Times are those of the study's clock, so that pruning does not depend on the
    number of workers.
    """

    def __init__(self, scheduler: SchedulerName, rungs: tuple[int, ...], spared: int = 0) -> None:
        self._scheduler, self._rungs, self._spared = scheduler, rungs, spared
        self._seen: dict[int, list[tuple[int, float, float]]] = {}

    def compares(self, root: int) -> tuple[int, ...]:
        """The rungs at which the point is compared."""
        if self._scheduler == "none" or root < self._spared:
            return ()
        if self._scheduler == "asha":
            return self._rungs
        return self._rungs[root % (len(self._rungs) + 1) :]

    def record(self, root: int, rung: int, time: float, value: float) -> None:
        """Remember that a point scored `value` at `rung`, which it reached at `time`."""
        self._seen.setdefault(rung, []).append((root, time, value))

    def stops(self, root: int, rung: int, time: float, value: float) -> bool:
        """Whether a point ends at a rung at which it is compared."""
        earlier = [v for r, t, v in self._seen.get(rung, ()) if r < root and t < time]
        if len(earlier) < REDUCTION_FACTOR:
            return False
        return value < float(np.quantile(earlier, 1 - 1 / REDUCTION_FACTOR))
