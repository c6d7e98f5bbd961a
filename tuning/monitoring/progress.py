"""Progress for people: bars on a terminal, plain lines elsewhere; Ray's chatter in a log file."""

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
        """Without `left`, the rest is taken to go as fast as what is done."""
        ...


class Reporter:
    """Writes progress to standard error and results to standard output."""

    def __init__(self) -> None:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self.out = Console(file=sys.stdout, width=width)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())

    def say(self, message: str) -> None:
        """One line about what happens."""
        self.err.print(message, markup=False)

    @contextmanager
    def track(self, what: str, total: int) -> Iterator[Advance]:
        """A step of `total` units; call the result with the number of units just done."""
        started, done = time.monotonic(), 0

        def remaining(left: float | None) -> str:
            if left is None and done:
                left = (time.monotonic() - started) / done * (total - done)
            return "" if left is None or done >= total else f", about {_duration(left)} left"

        if self.err.is_terminal:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[left]}"),
                console=self.err,
            ) as bars:
                task = bars.add_task(what, total=total, left="")

                def draw(units: int, left: float | None = None) -> None:
                    nonlocal done
                    done += units
                    bars.update(task, advance=units, left=remaining(left).removeprefix(", "))

                yield draw
            return
        shown = started

        def write(units: int, left: float | None = None) -> None:
            nonlocal done, shown
            done += units
            now = time.monotonic()
            if done >= total or now - shown >= LINE_EVERY:
                shown = now
                seconds = _duration(now - started)
                self.say(f"{what}: {done}/{total} ({seconds}{remaining(left)})")

        self.say(f"{what}: 0/{total}")
        yield write


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


@contextmanager
def chatter_to(log: Path) -> Iterator[Reporter]:
    """Send whatever libraries and child processes print to `log`; the reporter keeps the terminal.

    Done on file descriptors, because Ray's processes write past Python's streams.
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
