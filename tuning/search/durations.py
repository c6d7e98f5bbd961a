"""How long trials take, predicted from their hyperparameters: the time of a study's clock."""

from __future__ import annotations

from collections.abc import Callable

from trainables.decrop.config import DecropConfig
from trainables.decrop.operations import Operations
from trainables.task import TrialTask


def predicted_durations(task: TrialTask) -> Callable[[DecropConfig], list[float]]:
    """A function that gives the operations of a trial up to each rung of the task.

    It depends on nothing that differs between machines or runs: a study must be able to repeat it.
    """
    operations = Operations(task.classifier, task.train_images)
    images = len(task.tuning_labels)

    def durations(config: DecropConfig) -> list[float]:
        votes = 0
        found = []
        for rung in task.rungs:
            votes += images * task.votes_at(rung)
            found.append(rung * operations.of_epoch(config) + operations.of_votes(config, votes))
        return found

    return durations
