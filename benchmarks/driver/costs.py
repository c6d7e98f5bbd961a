"""What parts of the driver cost: CPU seconds, by trial or by task."""

import contextlib
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import pairwise
from typing import Any

import psutil

# Of a search; the rest is Tune's and Ray's.
PARTS = ("proposals", "database", "TensorBoard", "table", "progress", "files", "ledger")


class Shares:
    """CPU seconds of this thread in each part of the driver, less those of parts that it calls."""

    def __init__(self) -> None:
        self.seconds: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._inner: list[float] = []

    def charge(self, part: str, owner: Any, *names: str) -> None:
        """Charge all later calls of these functions of a class or module to `part`."""
        for name in names:
            setattr(owner, name, self._charged(part, getattr(owner, name)))

    def _charged(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
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

        return timed


class Meter:
    """Stands in for a `Reporter`: reads what was spent whenever a cohort's trials have ended."""

    def __init__(self, shares: Shares, cohort: int) -> None:
        self._shares, self._cohort, self._ended = shares, cohort, 0
        self._read: list[Counter[str]] = []

    @contextlib.contextmanager
    def track(self, what: str, total: int) -> Iterator[Callable[..., None]]:
        """As a `Reporter`'s."""

        def advance(units: int, left: float | None = None) -> None:
            # What was in the ledger before comes as one.
            self._ended += units if units == 1 else 0
            if units == 1 and self._ended % self._cohort == 0:
                self._read.append(Counter(self._shares.seconds) + spent())

        yield advance

    def per_trial(self) -> dict[str, float]:
        """CPU milliseconds of a trial by part, medians over the cohorts."""
        cohorts = [after - before for before, after in pairwise(self._read)]
        parts = self._read[-1]
        each = [{part: 1000 * one[part] / self._cohort for part in parts} for one in cohorts]
        for one in each:
            one["Tune and Ray"] = one["driver"] - sum(one[part] for part in PARTS)
        return {part: statistics.median(one[part] for one in each) for part in each[0]}


def spent() -> Counter[str]:
    """CPU seconds so far of this process, and of the processes that are Ray."""
    seconds = Counter({"driver": time.process_time()})
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            seconds[process.name()] += times.user + times.system
    return seconds


def memory() -> float:
    """What this process holds, in MB."""
    return psutil.Process().memory_info().rss / 1e6
