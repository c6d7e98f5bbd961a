"""Progress of a run: a panel on a terminal, plain lines elsewhere; Ray's output goes to a log."""

from __future__ import annotations

import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Protocol, TextIO

from rich.console import Console, RenderableType
from rich.live import Live

from tuning.monitoring.panel import panel
from tuning.monitoring.steps import Activity, Step, duration

# Columns of a table that goes to a file or a pipe.
PLAIN_WIDTH = 100
# Seconds between plain lines.
HEARTBEAT = 30.0


class Advance(Protocol):
    """Reports that `units` more are done, and how many seconds are `left` if that is known."""

    def __call__(self, units: int, left: float | None = None) -> None:
        """Without `left`, the rest is assumed to be as fast as what is done."""
        ...


class Reporter:
    """Writes progress to standard error and results to standard output.

    If it is `quiet`, only warnings, errors and results are written.

        with reporter.track("digits: votes", 8_100_000, fast=True) as advance:
            advance(1000)
    """

    def __init__(self, quiet: bool = False) -> None:
        width = None if sys.stdout.isatty() else PLAIN_WIDTH
        self.out = Console(file=sys.stdout, width=width)
        self.err = Console(file=sys.stderr, highlight=False, soft_wrap=not sys.stderr.isatty())
        self._quiet = quiet
        self._activity = Activity()
        self._display: Live | _Heartbeat | None = None

    def say(self, message: str) -> None:
        """One line about what is happening."""
        if not self._quiet:
            self.err.print(message, markup=False)

    def warn(self, message: str) -> None:
        """One line about what the user should know, even if nothing else is shown."""
        self.err.print(f"warning: {message}", markup=False)

    def show(self, table: RenderableType) -> None:
        """Something larger than a line about what is happening."""
        if not self._quiet:
            self.err.print(table)

    def expect(self, work: Mapping[str, float]) -> None:
        """Say how much work the steps of the run are going to be, by name and in any unit."""
        self._activity.work |= work

    def tell(self, name: str, fact: str) -> None:
        """Show a fact beside the steps, instead of an earlier one of the same name."""
        self._activity.facts[name] = fact

    @contextmanager
    def track(self, what: str, total: int, *, fast: bool = False) -> Iterator[Advance]:
        """A step of `total` units; call the result with the number of units just done.

        Fast ones are also counted by the second.
        """
        step = Step(what, total, fast)
        if not self.err.is_terminal:
            self.say(f"{what}: {step.amount}")
        self._activity.begin(step)
        # All steps that go on are shown together.
        if self._display is None and not self._quiet:
            self._display = self._new_display()
            self._display.start()
        try:
            yield step.advance
        finally:
            self._activity.end(step)
            self.say(f"{what}: {step.amount} ({duration(step.seconds)})")
            if self._display is not None and not self._activity.steps:
                self._display.stop()
                self._display = None

    def _new_display(self) -> Live | _Heartbeat:
        if not self.err.is_terminal:
            return _Heartbeat(lambda: self.say(self._activity.line))
        return Live(
            get_renderable=lambda: panel(self._activity),
            console=self.err,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )


class _Heartbeat:
    """Calls `beat` every now and then, even if nothing has advanced."""

    def __init__(self, beat: Callable[[], None]) -> None:
        self._call, self._ended = beat, Event()
        self._thread = Thread(target=self._beat, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, at once."""
        self._ended.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            self._call()


@contextmanager
def redirect_output(log: Path, quiet: bool = False) -> Iterator[Reporter]:
    """Send the output of libraries and child processes to `log`; the reporter keeps the terminal.

    The reporter may be `quiet`.

    File descriptors are redirected, because Ray's processes bypass Python's streams.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    reporter = Reporter(quiet)
    reporter.out.file, reporter.err.file = own = _kept(sys.stdout, 1), _kept(sys.stderr, 2)
    try:
        with log.open("a", encoding="utf-8") as file, _unbacked(file):
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield reporter
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor, original in enumerate(saved, start=1):
            os.dup2(original, descriptor)
            os.close(original)
        for stream in own:
            if stream not in (sys.stdout, sys.stderr):
                stream.close()


def _backed(stream: TextIO, descriptor: int) -> bool:
    """Whether what is written to `stream` passes through the descriptor: not so in a notebook."""
    try:
        return isinstance(stream, io.TextIOWrapper) and stream.fileno() == descriptor
    except (OSError, ValueError):
        return False


def _kept(stream: TextIO, descriptor: int) -> TextIO:
    """A stream that still writes where `stream` does when its file descriptor is redirected."""
    if not _backed(stream, descriptor):
        return stream
    return os.fdopen(os.dup(descriptor), "w", buffering=1)


@contextmanager
def _unbacked(file: TextIO) -> Iterator[None]:
    """Send to `file` what libraries write to Python's streams, where redirecting would miss it."""
    before = sys.stdout, sys.stderr
    if _backed(sys.stdout, 1) and _backed(sys.stderr, 2):
        yield
        return
    loggers = [logging.getLogger(), *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    handlers = {
        handler: handler.stream
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream in before
    }
    for handler in handlers:
        handler.setStream(file)
    sys.stdout = sys.stderr = file
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for handler, stream in handlers.items():
            handler.setStream(stream)
