"""Progress for people: bars on a terminal, plain lines elsewhere; Ray's chatter in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

# Columns of a table that goes to a file or a pipe.
PLAIN_WIDTH = 100
# Seconds between plain lines.
LINE_EVERY = 5.0


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
    def track(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        """A step of `total` units; call the result with the number of units just done."""
        if self.err.is_terminal:
            with Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                console=self.err,
            ) as bars:
                task = bars.add_task(what, total=total)
                yield lambda done: bars.advance(task, done)
        else:
            yield self._lines(what, total)

    def _lines(self, what: str, total: int) -> Callable[[int], None]:
        started = last = time.monotonic()
        done = 0

        def advance(units: int) -> None:
            nonlocal done, last
            done += units
            now = time.monotonic()
            if done >= total or now - last >= LINE_EVERY:
                last = now
                self.say(f"{what}: {done}/{total} ({now - started:.0f} s)")

        self.say(f"{what}: 0/{total}")
        return advance


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
