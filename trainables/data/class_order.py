"""The order of a data set's classes: that of a classifier's outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from trainables.data.images import Dataset, Images
from trainables.errors import InputError, nearest

# The order in which numbers in the names of classes count as numbers: 2 comes before 10.
NATURAL = "natural"


@dataclass(frozen=True)
class Relabelled:
    """`images` with different labels, int64 [images]."""

    images: Images
    labels: Tensor

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width] in [0, 1]."""
        return self.images.load(indices)


def in_order(dataset: Dataset, order: Sequence[str]) -> Dataset:
    """The same images, with the classes numbered in the `order` of a classifier's outputs.

    It is all names of the classes, or only `NATURAL`.

    Raises:
        InputError: when a class is missing, is named twice, or does not exist.
    """
    if tuple(order) == (NATURAL,):
        order = [dataset.classes[index] for index in natural_order(dataset.classes)]
    _check(order, dataset)
    position = {name: index for index, name in enumerate(order)}
    moved = torch.tensor([position[name] for name in dataset.classes])
    train, test = (Relabelled(side, moved[side.labels]) for side in (dataset.train, dataset.test))
    return replace(dataset, classes=tuple(order), train=train, test=test)


def natural_order(names: Sequence[str]) -> list[int]:
    """The positions of `names`, sorted such that numbers in them count as numbers."""

    def key(index: int) -> list[tuple[int, int, str]]:
        parts = re.findall(r"[0-9]+|[^0-9]+", names[index])
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]

    return sorted(range(len(names)), key=key)


def _check(order: Sequence[str], dataset: Dataset) -> None:
    known = dataset.classes
    for name in order:
        if name not in known:
            raise InputError(
                f"{dataset.name} has no class {name!r}{nearest(name, known)}", field="class_order"
            )
        if order.count(name) > 1:
            raise InputError(f"{name!r} is named twice", field="class_order")
    missing = [name for name in known if name not in order]
    if missing:
        raise InputError(
            f"{len(order)} of the {len(known)} classes are named; {missing[0]!r} is missing",
            field="class_order",
        )
