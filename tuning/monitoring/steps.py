"""What a run is doing: its steps, how far they are, and how long they are going to take."""

from __future__ import annotations

import time

from rich.filesize import pick_unit_and_suffix

# Seconds.
AT_ONCE = 1.0


class Step:
    """How much of a step of `total` units is done; `fast` ones are also counted by the second.

    step = Step("digits: votes", 8_100_000, fast=True)
    step.advance(4_000_000)
    step.amount   # 4.0M/8.1M
    """

    def __init__(self, what: str, total: int, fast: bool = False) -> None:
        self.what, self.total, self.fast = what, total, fast
        self.started, self.done = time.monotonic(), 0
        self._before = 0
        # It may begin long after it is announced, and with units that were done before.
        self._first: tuple[float, int] | None = None
        # The seconds for the rest, if whoever works on it knows better than an extrapolation.
        self.known_left: float | None = None

    def advance(self, units: int, left: float | None = None) -> None:
        """Count `units` more as done; `left` are the seconds for the rest, if they are known."""
        self.done += units
        self.known_left = left
        if self._first is None and units:
            self._first = time.monotonic(), self.done
            # What an earlier start has done is counted at once.
            self._before = self.done if self.seconds < AT_ONCE else 0

    @property
    def ended(self) -> bool:
        """Whether all of it is done."""
        return self.done >= self.total

    @property
    def share(self) -> float:
        """How much of it is done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 1.0

    @property
    def new_share(self) -> float:
        """How much of it this start of the run has done, in [0, 1]."""
        return (self.done - self._before) / self.total if self.total else 0.0

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    @property
    def rate(self) -> float | None:
        """Units a second since it began; None as long as too few are done to say.

        The first few units of a step that waited would promise days.
        """
        if self._first is None or self._counted < self.total / 100:
            return None
        seconds = time.monotonic() - self._since
        return self._counted / seconds if seconds > 0 else None

    @property
    def left(self) -> float | None:
        """The seconds for the rest; None if that cannot be said."""
        if self.ended:
            return None
        if self.known_left is not None:
            return self.known_left
        rate = self.rate
        return None if rate is None else (self.total - self.done) / rate

    @property
    def amount(self) -> str:
        """How much of it is done, as 3/18 or 4.0M/8.1M."""
        return f"{short(self.done)}/{short(self.total)}"

    @property
    def speed(self) -> str:
        """Units a second, if they are worth it."""
        rate = self.rate if self.fast and not self.ended else None
        return "" if rate is None else f"{short(round(rate))}/s"

    @property
    def remaining(self) -> str:
        """The time left, in words; empty if it is not known."""
        left = self.left
        return "" if left is None else f"{duration(left)} left"

    @property
    def _since(self) -> float:
        # Of several advances, the first only shows when work began.
        assert self._first is not None
        return self._first[0] if self._first[1] < self.done else self.started

    @property
    def _counted(self) -> int:
        assert self._first is not None
        return self.done - self._first[1] if self._first[1] < self.done else self.done


class Activity:
    """Everything that a run is doing: the `steps` that go on, and `facts` about it by name.

    `work` is the predicted work of all steps of the run, those still to come included, by name and
    in any unit.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.facts: dict[str, str] = {}
        self.work: dict[str, float] = {}
        self.started = time.monotonic()
        self._begun: dict[str, Step] = {}

    def begin(self, step: Step) -> None:
        """Add a step that goes on."""
        self.steps.append(step)
        self._begun[step.what] = step

    def end(self, step: Step) -> None:
        """Take away a step that has ended."""
        self.steps.remove(step)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    @property
    def left(self) -> float | None:
        """Seconds until the run ends, about; None if that cannot be said.

        A step that does not know its own time is as fast, by its predicted work, as the run so far.
        """
        begun = {what: self._begun[what] for what in self.work if what in self._begun}
        done = sum(self.work[what] * step.new_share for what, step in begun.items())
        if not done:
            return None
        spent = time.monotonic() - min(step.started for step in begun.values())
        known, rest = 0.0, 0.0
        for what, work in self.work.items():
            step = begun.get(what)
            if step is None:
                rest += work
            elif step in self.steps and step.known_left is not None:
                known += step.known_left
            elif step in self.steps:
                rest += work * (1 - step.share)
        return known + rest * spent / done

    @property
    def line(self) -> str:
        """All of it in a line."""
        parts = [" ".join(filter(None, (s.what, s.amount, s.speed))) for s in list(self.steps)]
        return "; ".join([*parts, *self.facts.values(), self.timing])

    @property
    def timing(self) -> str:
        """How long it has taken, and will, in words."""
        passed, left = f"{duration(self.seconds)} so far", self.left
        return passed if left is None else f"{passed}, about {duration(left)} left in all"


def short(number: int) -> str:
    """A number in few characters: 9999, 81.0k, 4.0M."""
    if number < 10_000:
        return str(number)
    size, unit = pick_unit_and_suffix(number, ["", "k", "M", "G", "T"], 1000)
    return f"{number / size:.1f}{unit}"


def duration(seconds: float) -> str:
    """So many seconds in words."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
