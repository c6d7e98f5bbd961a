"""What parts of the driver cost: CPU seconds, by trial or by task."""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from typing import ParamSpec, TypeVar

import psutil

from tuning.monitoring.progress import Advance, Reporter

Cost = dict[str, float]
"""CPU seconds by part or process."""

P = ParamSpec("P")
R = TypeVar("R")


class Shares:
    """CPU seconds of this thread in each part of the driver, without those of parts it calls."""

    def __init__(self) -> None:
        self.seconds: Cost = {}
        self.calls: Counter[str] = Counter()
        self._inner: list[float] = []

    def charge(self, part: str, owner: type, *names: str) -> None:
        """Charge all later calls of these methods of a class to `part`."""
        for name in names:
            setattr(owner, name, self.timed(part, getattr(owner, name)))

    def timed(self, part: str, function: Callable[P, R]) -> Callable[P, R]:
        """`function`, with its calls charged to `part`."""
        self.seconds.setdefault(part, 0.0)

        @wraps(function)
        def charged(*arguments: P.args, **options: P.kwargs) -> R:
            started = time.thread_time()
            self.calls[part] += 1
            self._inner.append(0.0)
            try:
                return function(*arguments, **options)
            finally:
                spent = time.thread_time() - started
                self.seconds[part] += spent - self._inner.pop()
                if self._inner:
                    self._inner[-1] += spent

        return charged


class Meter(Reporter):
    """Shows no progress, but records what was spent whenever as many trials ended as can run."""

    def __init__(self, shares: Shares, workers: int) -> None:
        super().__init__()
        self._shares, self._workers, self._ended = shares, workers, 0
        self._read: list[Cost] = []
        self._spent = shares.timed("measuring", spent)

    @contextlib.contextmanager
    def track(self, what: str, total: int, *, fast: bool = False) -> Iterator[Advance]:
        """Show nothing, but count the trials that end."""

        def advance(units: int, left: float | None = None) -> None:
            # What was in the ledger before comes in one call.
            self._ended += units if units == 1 else 0
            if units == 1 and self._ended % self._workers == 0:
                self._read.append(self._shares.seconds | self._spent())

        yield advance

    def per_trial(self) -> Cost:
        """CPU milliseconds of a trial by part, medians over rounds of the workers."""
        rounds = [
            {part: 1000 * seconds / self._workers for part, seconds in since(before, after).items()}
            for before, after in pairwise(self._read)
        ]
        for each in rounds:
            each["Tune and Ray"] = each["driver"] - sum(each[p] for p in self._shares.seconds)
        return {part: statistics.median(each[part] for each in rounds) for part in rounds[0]}


def since(before: Cost, after: Cost) -> Cost:
    """What was spent between two readings; a process may have started meanwhile."""
    return {part: seconds - before.get(part, 0.0) for part, seconds in after.items()}


def spent() -> Cost:
    """CPU seconds so far of this process, and of Ray's own processes."""
    seconds: Cost = {"driver": time.process_time()}
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            name, times = process.name(), process.cpu_times()
            seconds[name] = seconds.get(name, 0.0) + times.user + times.system
    return seconds


def memory() -> float:
    """The resident memory of this process, in MB."""
    held: int = psutil.Process().memory_info().rss
    return held / 1e6
