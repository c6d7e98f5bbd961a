"""How busy the workers of a run are."""

from __future__ import annotations

import time
from collections.abc import Callable


class Utilisation:
    """Tells how many workers are busy now, and which share of them on average since the start.

    `tell` is called with the name of the fact, and what is known.
    """

    def __init__(self, tell: Callable[[str, str], None]) -> None:
        self._tell = tell
        self._before: tuple[float, int, int] | None = None
        self._busy = self._offered = 0.0

    def __call__(self, busy: int, workers: int) -> None:
        """So many of the workers are busy from now on."""
        now = time.monotonic()
        if self._before is not None:
            since, were_busy, were_there = self._before
            self._busy += (now - since) * were_busy
            self._offered += (now - since) * were_there
        self._before = now, busy, workers
        text = f"{busy} of {workers} workers busy"
        if self._offered:
            text += f", {self._busy / self._offered:.0%} since the start"
        self._tell("workers", text)
