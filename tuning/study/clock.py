"""Logical time: when each point starts, reaches its rungs and ends, whatever workers really do."""

from __future__ import annotations

import heapq
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass
class _Point:
    """When a point starts and reaches its rungs, and the indices of those at which it may end.

    `passed` is the number of rungs that it is known to have left behind.
    """

    start: float
    rungs: tuple[float, ...]
    may_end: frozenset[int]
    passed: int = 0
    end: float = math.inf

    @property
    def earliest_end(self) -> float:
        """The earliest time at which the point can end, by what is known."""
        return next(t for i, t in enumerate(self.rungs) if i >= self.passed and i in self.may_end)


class Clock:
    """The schedule of a study on virtual workers.

    Points are numbered in the order in which they start. Each occupies one of `virtual_workers` for
    a time that is predicted from its hyperparameters, and the next point starts when the first of
    them becomes free. What is derived from these times depends on the results of points alone, not
    on the number and speed of real workers; the clock only advances as far as results are known.

        clock = Clock(virtual_workers=2)
        clock.begin([1.0, 8.0], may_end={0})    # point 0 may end at 1, or at 8
        clock.begin([2.0, 16.0], may_end={0})   # point 1 may end at 2, or at 16
        clock.next_start()                      # None
        clock.advance(0)                        # point 0 goes on
        clock.end(1, 0)                         # point 1 ends at its first rung
        clock.next_start()                      # 2.0
    """

    def __init__(self, virtual_workers: int) -> None:
        self._points: list[_Point] = []
        self._running: set[int] = set()
        self._free = [0.0] * virtual_workers

    def __len__(self) -> int:
        """How many points have started."""
        return len(self._points)

    def next_start(self) -> float | None:
        """When the next point starts; None while a running point may end before that."""
        if not self._free:
            return None
        first = self._free[0]
        certain = all(self._points[root].earliest_end >= first for root in self._running)
        return first if certain else None

    def begin(self, durations: Sequence[float], may_end: Collection[int]) -> None:
        """Start the next point on the virtual worker that is free first.

        `durations` are the times that it needs up to each of its rungs, in ascending order. It may
        end at the last one, and at those with the indices `may_end`.
        """
        start = heapq.heappop(self._free)
        self._running.add(len(self._points))
        rungs = tuple(start + duration for duration in durations)
        self._points.append(_Point(start, rungs, frozenset(may_end) | {len(rungs) - 1}))

    def advance(self, root: int) -> None:
        """Note that a point goes on at its next rung."""
        self._points[root].passed += 1

    def end(self, root: int, index: int) -> None:
        """Note that a point ended at a rung."""
        point = self._points[root]
        point.end = point.rungs[index]
        self._running.discard(root)
        heapq.heappush(self._free, point.end)

    @property
    def running(self) -> list[int]:
        """The points that have started and not ended, in order."""
        return sorted(self._running)

    def next_rung_of(self, root: int) -> float:
        """When a running point reaches its next rung: until then, all is known about it."""
        point = self._points[root]
        return point.rungs[point.passed]

    def time_of(self, root: int, index: int) -> float:
        """When a point reaches a rung."""
        return self._points[root].rungs[index]

    def start_of(self, root: int) -> float:
        """When a point starts."""
        return self._points[root].start

    def end_of(self, root: int) -> float:
        """When a point ends; infinite as long as that is not known."""
        return self._points[root].end
