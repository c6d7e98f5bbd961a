"""What follows from the results of points: when the next one starts, and which are pruned."""

from __future__ import annotations

import math
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from tuning.study.clock import Clock
from tuning.study.pruning import Pruner


class Schedule:
    """Decides about points by what earlier points had come to, in the time of the `clock`.

    A decision about a point depends on points with lower numbers only. It is therefore the same in
    a shorter or a longer study, in whatever order results arrive, and when it is made again by a
    study that resumes.
    """

    def __init__(self, clock: Clock, pruner: Pruner, rungs: tuple[int, ...]) -> None:
        self.clock = clock
        self._pruner, self._rungs = pruner, rungs
        self._values: dict[tuple[int, int], float] = {}
        self._waiting: dict[int, int] = {}
        self._pruned: set[int] = set()
        self._hurries = False

    def begin(self, durations: Sequence[float]) -> None:
        """Start the next point, which needs `durations` up to each of its rungs."""
        compared = self._pruner.compares(len(self.clock))
        self.clock.begin(durations, {self._rungs.index(rung) for rung in compared})

    def first_value(self, root: int, rung: int, value: float) -> float:
        """The value that counts: what the first attempt scored at the rung, if there was one."""
        return self._values.get((root, self._rungs.index(rung)), value)

    def report(self, root: int, rung: int, value: float) -> None:
        """Take note of the score of a point at a rung."""
        index = self._rungs.index(rung)
        if (root, index) in self._values:
            return
        self._remember(root, index, value)
        if index < len(self._rungs) - 1 and root not in self._waiting:
            self._waiting[root] = index
            self._decide()

    def decision(self, root: int) -> bool | None:
        """Whether the point is pruned at the last rung that it reported; None if not yet known."""
        return None if root in self._waiting else root in self._pruned

    def end(self, root: int, attempt: FrozenTrial) -> None:
        """Take note that a point has its result, by an attempt at it.

        When it ends follows from what is recorded of it: a failed one at the next rung at which it
        could have ended.
        """
        reported = [i for i, rung in enumerate(self._rungs) if rung in attempt.intermediate_values]
        for index in reported:
            if (root, index) not in self._values:
                self._remember(root, index, attempt.intermediate_values[self._rungs[index]])
        last = len(self._rungs) - 1
        if attempt.state == TrialState.PRUNED:
            last = reported[-1]
        elif attempt.state == TrialState.FAIL:
            compared = [self._rungs.index(rung) for rung in self._pruner.compares(root)]
            following = (i for i in compared if i > max(reported, default=-1))
            last = next(following, last)
        self._waiting.pop(root, None)
        self.clock.end(root, last)
        self._decide()

    def hurry(self) -> None:
        """From now on, decide by what is known already: what is missing may never come."""
        self._hurries = True
        self._decide()

    def _remember(self, root: int, index: int, value: float) -> None:
        self._values[root, index] = value
        self._pruner.record(root, self._rungs[index], self.clock.time_of(root, index), value)

    def _decide(self) -> None:
        """Make all decisions for which enough is known of earlier points."""
        known_until = math.inf
        for root in self.clock.running:
            while root in self._waiting and self._decided(root, known_until):
                pass
            known_until = min(known_until, self.clock.next_rung_of(root))

    def _decided(self, root: int, known_until: float) -> bool:
        """Decide about a point that waits, if all is known of earlier points before that time."""
        index = self._waiting[root]
        rung, time = self._rungs[index], self.clock.time_of(root, index)
        if rung in self._pruner.compares(root):
            if time > known_until and not self._hurries:
                return False
            if self._pruner.stops(root, rung, time, self._values[root, index]):
                self._pruned.add(root)
                del self._waiting[root]
                return True
        self.clock.advance(root)
        del self._waiting[root]
        if index + 1 < len(self._rungs) - 1 and (root, index + 1) in self._values:
            self._waiting[root] = index + 1
        return True
