"""When a search starts no more trials."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from tuning.study.ledger import Ledger


@dataclass(frozen=True)
class Limits:
    """When no new trial starts: at a monotonic time, or after so many device-seconds of trials."""

    deadline: float | None = None
    device_seconds: float | None = None
    devices_per_trial: float = 1.0

    def reached(self, ledgers: Iterable[Ledger]) -> bool:
        """Whether a limit is reached."""
        if self.deadline is not None and time.monotonic() > self.deadline:
            return True
        if self.device_seconds is None:
            return False
        spent = sum(ledger.seconds for ledger in ledgers) * self.devices_per_trial
        return spent >= self.device_seconds
