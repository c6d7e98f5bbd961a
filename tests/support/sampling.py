"""A generation of samples in which every hyperparameter shows, and what is seen of it."""

import copy
from typing import Any

import torch
from torch import Tensor

from tests.support.toys import random_images
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import GeneratedSamples
from trainables.models.classifiers import BaseClassifier

# Far from the defaults; samples keep all their bits.
VISIBLE: dict[str, Any] = {
    "attack_radius": 0.3, "step_size": 0.05, "attack_steps": 3, "mix": 0.5,
    "interpolation_steps": 2, "interpolation_learning_rate": 0.01, "eight_bits": "none",
}  # fmt: skip


def four_images() -> tuple[Tensor, Tensor]:
    return random_images(4), torch.tensor([0, 1, 2, 0])


def counted(classifier: BaseClassifier) -> tuple[BaseClassifier, list[int]]:
    """A copy, and the sizes of the batches that it or any copy of it classifies from now on."""
    sizes: list[int] = []
    classifier = copy.deepcopy(classifier)
    classifier.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    return classifier, sizes


def visible(**changes: Any) -> DecropConfig:
    return DecropConfig.model_validate(VISIBLE | changes)


def same(first: GeneratedSamples, second: GeneratedSamples) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
