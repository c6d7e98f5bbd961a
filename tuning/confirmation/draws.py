"""What chance has to do with a confirmed score: the folds with their trainings, and the images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trainables.data.splits import Shots
from trainables.smoothing.bounds import Floats


class Draws(NamedTuple):
    """The fold and the tuning image, by its index, behind each score: [scores].

    draws = Draws(folds=(0, 0, 1, 1), images=(3, 8, 4, 7))
    draws.standard_error([0.5, 0.7, 0.2, 0.4])   # 0.15
    """

    folds: tuple[int, ...]
    images: tuple[int, ...]

    @classmethod
    def of(cls, folds: Sequence[Shots]) -> Draws:
        """Those of the tuning images of the folds, in their order."""
        numbers = [number for number, fold in enumerate(folds) for _ in fold.tuning_indices]
        return cls(tuple(numbers), tuple(i for fold in folds for i in fold.tuning_indices))

    def standard_error(self, scores: ArrayLike) -> float:
        """The standard error of the mean of `scores` [scores]; infinite for a single one.

        Scores of a fold share their training, and later folds repeat images; so the variance is
        that between folds and that between images, less what is in both. It is never below that
        between images, as a few folds may resemble each other by chance.
        Source: Cameron, Gelbach and Miller 2011 (two-way clustering).
        """
        found = np.asarray(scores, dtype=np.float64)
        if len(found) == 1:
            return math.inf
        rest = found - found.mean()
        folds, images = (np.unique(each, return_inverse=True)[1] for each in self)
        between_images = _variance(rest, images)
        both = _variance(rest, folds) + between_images - _variance(rest, np.arange(len(rest)))
        return math.sqrt(max(both, between_images))


def _variance(rest: Floats, groups: ArrayLike) -> float:
    """Of the mean, if `rest`, of mean zero, varies with the groups: the number of each, [scores].

    0.0 if there is only one group, which cannot tell.
    """
    sums = np.bincount(groups, weights=rest)
    if len(sums) == 1:
        return 0.0
    return float(len(sums) / (len(sums) - 1) * np.square(sums).sum() / len(rest) ** 2)
