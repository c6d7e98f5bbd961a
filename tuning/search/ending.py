"""What goes on beside the trials of a search, and its end if it is asked to, as by SIGTERM."""

from __future__ import annotations

from typing import Any

from ray import tune
from ray.tune.experiment import Trial

from tuning.cluster.ending import ENDING
from tuning.cluster.pausing import pause_workers
from tuning.cluster.pool import TaskPool


class BesideCallback(tune.Callback):
    """Gives the other tasks of the run their turns, several times a second."""

    def __init__(self, pool: TaskPool) -> None:
        self._pool = pool

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_step_end(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Let them go on."""
        self._pool.turn()


class EndingCallback(tune.Callback):
    """Ends a search that is to end once all that runs is saved, or the grace is over."""

    def __init__(self, pool: TaskPool) -> None:
        self._pool = pool
        self._told = False

    def __getstate__(self) -> dict[str, Any]:
        """As in `LedgerSearcher`."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Trial], **info: Any) -> None:
        """Look whether the search is to end, several times a second."""
        if not ENDING.asked:
            return
        if not self._told:
            pause_workers()
            self._told = True
        saved = self._pool.idle and all(trial.status != Trial.RUNNING for trial in trials)
        if saved or ENDING.overdue:
            raise KeyboardInterrupt
