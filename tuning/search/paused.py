"""Trials that wait at a rung, and the workers that are free in the meantime."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ray.tune.experiment import Trial

from tuning.study.ledger import Ledger


class PausedTrials:
    """Trials that wait until it is known whether they are pruned where they are.

    `ledgers` are those of the search by setting, and `workers` tells how many workers there are. A
    paused trial frees its worker for others once Tune has written its checkpoint.
    """

    def __init__(self, ledgers: Mapping[str, Ledger], workers: Callable[[], int]) -> None:
        self._ledgers, self._workers = ledgers, workers
        self._trials: dict[str, Trial] = {}

    def add(self, trial: Trial) -> None:
        """Take a trial that Tune is about to pause."""
        self._trials[trial.trial_id] = trial

    def remove(self, trial: Trial) -> None:
        """Give up a trial that goes on or has ended."""
        self._trials.pop(trial.trial_id, None)

    def clear(self) -> None:
        """Give up all trials."""
        self._trials.clear()

    @property
    def waiting(self) -> list[Trial]:
        """The trials without a worker, in the order in which they came."""
        return [trial for trial in self._trials.values() if trial.status == Trial.PAUSED]

    @property
    def pruned(self) -> list[Trial]:
        """Those that are to be pruned."""
        return [trial for trial in self.waiting if self._decision(trial) is True]

    @property
    def ready(self) -> list[Trial]:
        """Those that can go on."""
        return [trial for trial in self.waiting if self._decision(trial) is False]

    @property
    def free_workers(self) -> int:
        """How many workers have no trial."""
        started = sum(ledger.started for ledger in self._ledgers.values())
        return self._workers() - started + len(self.waiting)

    @property
    def busy_workers(self) -> int:
        """How many workers have a trial."""
        return self._workers() - self.free_workers

    @property
    def needed_workers(self) -> float:
        """How many of the workers without a trial may still get one."""
        return math.inf if self._more else len(self.waiting)

    @property
    def spare_workers(self) -> int:
        """How many workers no trial will need any more, not even those that wait."""
        if self._more:
            return 0
        return max(0, self._workers() - sum(each.started for each in self._ledgers.values()))

    @property
    def _more(self) -> bool:
        """Whether more trials are to come."""
        return not all(ledger.exhausted for ledger in self._ledgers.values())

    def _decision(self, trial: Trial) -> bool | None:
        return self._ledgers[trial.config["setting"]].decision(trial.config["number"])
