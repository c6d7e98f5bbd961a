"""How a run ends early: after Ctrl-C at once, after SIGTERM or SIGHUP within a grace."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tuning.errors import Ended

# What SLURM, Kubernetes and spot instances send, and what a terminal sends when it is closed.
GRACEFUL = (signal.SIGTERM, signal.SIGHUP)


class Ending:
    """Which signal asked this process to end, and how long it may still take.

    A signal raises KeyboardInterrupt in the main thread, as Ctrl-C does. In a block that knows how
    to stop by itself, SIGTERM and SIGHUP only set `asked`:

        with ENDING.graceful():
            while work and not ENDING.asked:
                ...
    """

    _received: signal.Signals | None
    _deadline: float | None

    def __init__(self) -> None:
        # Seconds between SIGTERM or SIGHUP and the end.
        self.grace = 0.0
        self._blocks = 0
        self._forget()

    def listen(self) -> None:
        """Handle the signals; called again after Ray, which replaces the handler of SIGTERM."""
        signal.signal(signal.SIGINT, self._handle)
        for number in GRACEFUL:
            # nohup ignores SIGHUP, and means it.
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._handle)

    @contextmanager
    def listening(self, then: str) -> Iterator[None]:
        """Report in one line which signal ended the block, and what to do `then`.

        Raises:
            Ended: when a signal ended it, with the exit code of a shell: 128 plus the signal.
        """
        self._forget()
        self.listen()
        try:
            yield
        except KeyboardInterrupt:
            raise self.error(then) from None

    @contextmanager
    def graceful(self) -> Iterator[None]:
        """A block that looks at `asked`, and ends soon after that.

        Raises:
            KeyboardInterrupt: at its end, if it was asked to end.
        """
        self._blocks += 1
        try:
            yield
        finally:
            self._blocks -= 1
        if self.asked and not self._blocks:
            raise KeyboardInterrupt

    @property
    def asked(self) -> bool:
        """Whether to begin nothing new, and to end as soon as what has begun is saved."""
        return self._deadline is not None

    @property
    def overdue(self) -> bool:
        """Whether the grace is over."""
        return self._deadline is not None and time.monotonic() > self._deadline

    def lose(self, reason: str) -> None:
        """Interrupt the main thread, from a different one, because the cluster is gone."""
        self.lost = reason
        os.kill(os.getpid(), signal.SIGINT)

    def leave(self, code: int) -> int:
        """The exit code `code`; ends the process with it if the cluster is gone."""
        if self.lost:
            # What Ray does when Python ends would wait for the cluster, and change the code.
            sys.stdout.flush()
            os._exit(code)
        return code

    def error(self, then: str) -> Ended:
        """What happened, and what to do `then`."""
        received = self._received or signal.SIGINT
        how = "interrupted" if received == signal.SIGINT else f"ended by {received.name}"
        return Ended(f"{how}; {then}", 128 + received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.receive(signal.Signals(number))

    def receive(self, received: signal.Signals) -> None:
        """React to a signal.

        Raises:
            KeyboardInterrupt: unless it only sets `asked`, or came before.
        """
        first = self._received is None
        if first:
            self._received = received
        if received not in GRACEFUL:
            raise KeyboardInterrupt
        if not first:
            # SLURM, and whoever signals all processes of a group, may send it more than once.
            return
        if self._blocks:
            self._deadline = time.monotonic() + self.grace
        else:
            raise KeyboardInterrupt

    def _forget(self) -> None:
        # Why the run cannot continue, if its cluster is gone.
        self.lost = ""
        self._received = self._deadline = None


ENDING = Ending()
"""That of this process: it has only one main thread, which gets its signals."""
