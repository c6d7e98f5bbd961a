"""What all trainings of a setting share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import SampleStore
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.objective import Objective

# Votes per image at an early rung; fewer could not tell trials apart.
MIN_VOTES = 100


def never() -> bool:
    """Nobody asks for a pause."""
    return False


@dataclass(frozen=True)
class TrialTask:
    """What all trials of a setting share; it is sent to each worker once.

    Images are [n, C, H, W] in [0, 1], labels int64 [n]. `rungs` are the epochs after which a
    trial reports, in ascending order; the last one ends the trial, and casts `tuning_votes`.
    `samples` is where trials share their generated samples, and `initial` the weights they start
    from; training computes in `precision`. A worker ends if it needs more than `timeout` seconds
    from one rung to the next, or more than `gpu_share` of its GPU's memory. Between two epochs,
    `asked_to_pause` says whether to save the training and to stop.
    """

    classifier: BaseClassifier
    train_images: Tensor
    train_labels: Tensor
    tuning_images: Tensor
    tuning_labels: Tensor
    objective: Objective
    tuning_votes: int
    n0: int
    n: int
    alpha: float
    shared_seed: int
    rungs: tuple[int, ...]
    samples: SampleStore
    initial: bytes | None
    precision: Precision
    device: str
    threads: int
    gpu_share: float
    timeout: float | None
    asked_to_pause: Callable[[], bool] = never

    def votes_at(self, rung: int) -> int:
        """Votes per tuning image at a rung; differences at early rungs are large, so fewer do."""
        return max(min(MIN_VOTES, self.tuning_votes), self.tuning_votes * rung // self.rungs[-1])

    def training(
        self, config: DecropConfig, images: Tensor, labels: Tensor, seed: int
    ) -> DecropTraining:
        """A training of the setting on this worker's device."""
        return DecropTraining(
            config,
            self.classifier.to(self.device),
            images.to(self.device),
            labels.to(self.device),
            seed,
            SharedParts(self.shared_seed, self.samples, self.initial, self.precision),
        )
