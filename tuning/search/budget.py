"""How a run's budget is divided, and when its search stops starting trials."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass

from results.schema import VARIANTS
from trainables.decrop.config import BASELINES
from tuning.config import RunConfig
from tuning.setting.setting import Setting
from tuning.study.ledger import Ledger
from tuning.study.points import compared


@dataclass(frozen=True)
class Limits:
    """When to start no new trials: after a monotonic time, or after `device_seconds` of trials."""

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


def search_share(config: RunConfig, setting: Setting) -> float:
    """The search's share of all training; the rest is for confirmation and the variants."""
    search = config.trials + len(compared(setting.space))
    return search / (search + later_trainings(config))


def confirmation_votes(config: RunConfig, setting: Setting, shortlist: int) -> int:
    """Votes that confirmation casts on `shortlist` trials and on the bare classifier."""
    images = config.confirm_folds * len(setting.shots.tuning_labels)
    return (shortlist + len(setting.space.sweep)) * images * config.confirm_votes


def shortlist_size(config: RunConfig) -> int:
    """The most configurations that are confirmed: the best of the search, and of each baseline.

    The published one is confirmed as it is and at its best sigma.
    """
    return min(config.candidates, config.trials - 1) + 2 + len(BASELINES)


def later_trainings(config: RunConfig) -> int:
    """Denoisers that are trained after the search: for each fold, and on all shots."""
    return shortlist_size(config) * config.confirm_folds + certified_models(config) - 1


def certified_models(config: RunConfig) -> int:
    """The most models that are certified.

    These are the variants, published at its best sigma, and a front of all confirmed trials.
    """
    return len(VARIANTS) + 1 + (shortlist_size(config) if config.pareto else 0)
