"""Progress of a run: bars on a terminal, plain lines elsewhere; Ray's output goes to a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

# Columns of a table that goes to a file or a pipe.
PLAIN_WIDTH = 100
# Seconds between plain lines.
LINE_EVERY = 5.0


class Advance(Protocol):
    """Reports that `units` more are done, and how many seconds are `left` if that is known."""

    def __call__(self, units: int, left: float | None = None) -> None:
        """Without `left`, the rest is assumed to be as fast as what is done."""
        ...


class Reporter:
    """Writes progress to standard error and results to standard output."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self.out = Console(file=sys.stdout, width=width)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._bars = self._display()
        self._steps = 0

    def say(self, message: str) -> None:
        """One line about what is happening."""
        self.err.print(message, markup=False)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        """A step of `total` units; call the result with the number of units just done."""
        if not self.err.is_terminal:
            self.say(f"{what}: 0/{total}")
            yield _Lines(self, what, total)
            return
        # A terminal shows one display at a time, with the bars of all steps that go on.
        if self._steps == 0:
            self._bars = self._display()
            self._bars.start()
        self._steps += 1
        try:
            yield _Bar(self._bars, what, total)
        finally:
            self._steps -= 1
            if self._steps == 0:
                self._bars.stop()

    def _display(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.err,
        )


class _Step:
    """How much of a step of `total` units is done."""

    def __init__(self, total: int) -> None:
        self.started, self.done, self.total = time.monotonic(), 0, total
        # It may begin long after it is announced, and with units that were done before.
        self._first: tuple[float, int] | None = None

    def advance(self, units: int) -> None:
        """Count `units` more as done."""
        self.done += units
        if self._first is None and units:
            self._first = time.monotonic(), self.done

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self.started

    def remaining(self, left: float | None) -> str:
        """The seconds that are `left`, in words; if they are unknown, an extrapolation."""
        since, before = self.started, 0
        if self._first is not None and self._first[1] < self.done:
            since, before = self._first
        # Of a hundredth at least: the first few units of a step that waited would promise days.
        if left is None and self.done - before >= self.total / 100:
            seconds = time.monotonic() - since
            left = seconds / (self.done - before) * (self.total - self.done)
        if left is None or self.done >= self.total:
            return ""
        return f"about {_duration(left)} left"


class _Bar:
    """Draws a step as a bar."""

    def __init__(self, bars: Progress, what: str, total: int) -> None:
        self._bars, self._step = bars, _Step(total)
        self._task = bars.add_task(what, total=total, left="")

    def __call__(self, units: int, left: float | None = None) -> None:
        self._step.advance(units)
        self._bars.update(self._task, advance=units, left=self._step.remaining(left))


class _Lines:
    """Writes a line about a step now and then."""

    def __init__(self, reporter: Reporter, what: str, total: int) -> None:
        self._reporter, self._what, self._step = reporter, what, _Step(total)
        self._shown = self._step.started

    def __call__(self, units: int, left: float | None = None) -> None:
        step = self._step
        step.advance(units)
        now = time.monotonic()
        if step.done >= step.total or now - self._shown >= LINE_EVERY:
            self._shown = now
            taken = ", ".join(filter(None, (_duration(step.seconds), step.remaining(left))))
            self._reporter.say(f"{self._what}: {step.done}/{step.total} ({taken})")


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def redirect_output(log: Path) -> Iterator[Reporter]:
    """Send the output of libraries and child processes to `log`; the reporter keeps the terminal.

    File descriptors are redirected, because Ray's processes bypass Python's streams.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    python_streams = sys.stdout, sys.stderr
    saved = os.dup(1), os.dup(2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), "w", buffering=1) for fd in saved)
    reporter = Reporter()
    own_streams = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = python_streams
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        yield reporter
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in enumerate(saved, start=1):
            os.dup2(original, descriptor)
            os.close(original)
        for stream in own_streams:
            stream.close()
