"""How fast a device trains denoisers, measured by a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import MemoryStore, SampleStore
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier

# On a CPU the time of a step is proportional to its pixels, so few of them are enough.
CPU_PIXELS = 8 * 32 * 32
# Steps that are timed, after one that is not.
STEPS = 3
# No schedule comes to its end.
_EPOCHS = 100_000


@dataclass(frozen=True)
class _Unchanged:
    """Stands in for generated samples, whose values do not matter for the time of a step."""

    images: Tensor

    def get(self, key: str) -> Tensor:
        return self.images

    def put(self, key: str, samples: Tensor) -> None:
        pass


class Pace(NamedTuple):
    """Seconds for each image: of a training step, and once to generate samples."""

    step: float
    generation: float


def step_by_step(
    config: DecropConfig,
    classifier: BaseClassifier,
    images: Tensor,
    precision: Precision,
    store: SampleStore | None = None,
) -> DecropTraining:
    """A training `config` whose epochs are single steps, on the device of `images` [n, C, H, W].

    The images are repeated to fill a batch, or as much of one as `timed_images` says. Samples are
    generated only if there is a `store` for them.
    """
    size = timed_images(config, images)
    batch = images[torch.arange(size, device=images.device) % len(images)]
    labels = torch.zeros(size, dtype=torch.int64, device=images.device)
    config = config.model_copy(update={"batch_size": size, "epochs": _EPOCHS})
    shared = SharedParts(store=_Unchanged(batch) if store is None else store, precision=precision)
    return DecropTraining(config, classifier, batch, labels, 0, shared)


def timed_images(config: DecropConfig, images: Tensor) -> int:
    """How many images a step of `step_by_step` has."""
    if images.device.type != "cpu":
        return config.batch_size
    return min(config.batch_size, max(2, CPU_PIXELS // (images.shape[-2] * images.shape[-1])))


def training_pace(
    config: DecropConfig, classifier: BaseClassifier, images: Tensor, precision: Precision
) -> Pace:
    """How fast the device of `images` [n, C, H, W] carries out the training `config`."""
    started = time.perf_counter()
    training = step_by_step(config, classifier, images, precision, MemoryStore())
    generated = time.perf_counter() - started
    training.train_epoch()
    seconds = []
    for _ in range(STEPS):
        started = time.perf_counter()
        training.train_epoch()
        seconds.append(time.perf_counter() - started)
    size = timed_images(config, images)
    return Pace(median(seconds) / size, generated / size)
