"""Which images a run may see: the shots, split once into training and tuning images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainables.data.datasets import Dataset
from trainables.data.shots import ShotCount
from trainables.errors import InputError

# One shot in five is for judging trials; the rest are for training them.
TUNING_SHARE = 0.2


class HeldOutImages(NamedTuple):
    """Test images [n, C, H, W] in [0, 1], labels int64 [n], and their positions in the test set."""

    images: Tensor
    labels: Tensor
    indices: list[int]


class Shots(NamedTuple):
    """The labelled images the user owns: images [n, C, H, W] in [0, 1], labels int64 [n].

    The indices are positions in the data set's training images.
    """

    train_images: Tensor
    train_labels: Tensor
    train_indices: list[int]
    tuning_images: Tensor
    tuning_labels: Tensor
    tuning_indices: list[int]

    def fold(self, number: int, seed: int) -> Shots:
        """The same shots, split differently: the `number`-th fold judges, the others train.

        Folds are drawn by class and `seed`, and each has as many images as the tuning part. The
        first folds, about five, have no image in common; later ones repeat images.
        """
        images, labels, indices = self.joined()
        generator = torch.Generator().manual_seed(seed)
        train: list[int] = []
        tuning: list[int] = []
        for label in labels.unique().tolist():
            members = torch.nonzero(labels == label).flatten()
            members = members[torch.randperm(len(members), generator=generator)]
            size = _held_out(len(members))
            turned = members.roll(-number * size).tolist()
            tuning += turned[:size]
            train += turned[size:]
        return Shots(
            images[train],
            labels[train],
            [indices[i] for i in train],
            images[tuning],
            labels[tuning],
            [indices[i] for i in tuning],
        )

    def joined(self) -> tuple[Tensor, Tensor, list[int]]:
        """All shots: images [n, C, H, W], labels [n] and indices."""
        return (
            torch.cat((self.train_images, self.tuning_images)),
            torch.cat((self.train_labels, self.tuning_labels)),
            self.train_indices + self.tuning_indices,
        )


def draw_shots(dataset: Dataset, shots: ShotCount, seed: int) -> Shots:
    """Draw `shots` images of each class and split them by class and seed.

    The draw depends only on the labels' order and the seed, so it is the same on every machine.

    Raises:
        InputError: when a class has too few images, or fewer than two shots are asked for.
    """
    labels = dataset.train.labels
    generator = torch.Generator().manual_seed(seed)
    train: list[int] = []
    tuning: list[int] = []
    for label, name in enumerate(dataset.classes):
        members = torch.nonzero(labels == label).flatten()
        count = _shots_of_class(shots, name, len(members))
        drawn = members[torch.randperm(len(members), generator=generator)][:count].tolist()
        held_out = _held_out(count)
        tuning += drawn[:held_out]
        train += drawn[held_out:]
    images = dataset.train.load(train + tuning)
    return Shots(
        images[: len(train)],
        labels[train],
        train,
        images[len(train) :],
        labels[tuning],
        tuning,
    )


def certification_indices(dataset: Dataset, count: int) -> list[int]:
    """`count` test images at a fixed stride, as in Cohen et al. 2019, Section 4; or all of them."""
    available = len(dataset.test.labels)
    count = min(count, available)
    return [i * available // count for i in range(count)]


def held_out_images(dataset: Dataset, count: int) -> HeldOutImages:
    """The `count` test images on which everything is certified; all of them if there are fewer."""
    indices = certification_indices(dataset, count)
    return HeldOutImages(dataset.test.load(indices), dataset.test.labels[indices], indices)


def _held_out(count: int) -> int:
    """How many of a class's `count` shots judge trials."""
    return max(1, round(TUNING_SHARE * count))


def _shots_of_class(shots: ShotCount, name: str, available: int) -> int:
    count = shots.count(available)
    if count > available:
        raise InputError(
            f"{shots} asks for {count} images of class {name!r}, which has {available}",
            field="shots",
        )
    if count < 2:
        raise InputError(
            f"{shots} gives {count} image of class {name!r}; at least 2 are needed, one for "
            "training and one for tuning",
            field="shots",
        )
    return count
