"""Trials that pause: because the run ends, or because their host leaves the cluster."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from tuning.cluster.ending import ENDING
from tuning.cluster.pausing import pause_workers


class PausingScheduler(FIFOScheduler):
    """Lets paused trials continue, on a host that stays, unless the run is to end."""

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        """The next trial to start or to continue."""
        return None if ENDING.asked else super().choose_trial_to_run(tune_controller)


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
