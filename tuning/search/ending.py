"""The end of a search that is asked to end, for example by SIGTERM."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.cluster.ending import ENDING
from tuning.cluster.pausing import pause_workers


class EndingCallback(tune.Callback):
    """Ends a search that is to end once all of its trials are saved, or the grace is over."""

    def __init__(self) -> None:
        self._told = False

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look whether the search is to end, several times a second."""
        if not ENDING.asked:
            return
        if not self._told:
            pause_workers()
            self._told = True
        if ENDING.overdue or all(trial.status != Trial.RUNNING for trial in trials):
            raise KeyboardInterrupt
