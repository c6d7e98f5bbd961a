"""What a search maximises: the certificates that a few votes on the tuning images predict.

Answers are marked as in an examination with negative marking: at each radius, a correct certificate
counts 1, an abstention 0, and a wrong certificate -1 / (classes - 1). Whoever answers without
looking at the image expects 0. The average certified radius, by contrast, pays a classifier that
always gives the same answer (Sun et al. 2025, "Average Certified Radius is a Poor Metric for
Randomized Smoothing").
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from trainables.choices import DEFAULT_RADII, objective_radii
from trainables.errors import InputError
from trainables.smoothing.bounds import Counts, Floats
from trainables.smoothing.prediction import Certification


class Score(NamedTuple):
    """Mean over the images and its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, scores: ArrayLike) -> Score:
        """The mean of the images' `scores` [images], of which there must be one."""
        found = np.asarray(scores, dtype=np.float64)
        variance = found.var(ddof=1) if len(found) > 1 else 0.0
        return cls(float(found.mean()), math.sqrt(variance / len(found)))


class Objective(NamedTuple):
    """Certified accuracy at `radii`, wrong certificates counted against it; None: the ACR."""

    radii: tuple[float, ...] | None = DEFAULT_RADII

    @classmethod
    def parse(cls, text: str, radii: tuple[float, ...]) -> Objective:
        """`certified-accuracy` at `radii` or `certified-accuracy@R[,R]`; `acr`; or `pareto`.

        The last is the first, beside the clean accuracy.

        Raises:
            InputError: for anything else.
        """
        try:
            named = objective_radii(text)
        except ValueError as error:
            raise InputError(str(error), field="objective") from error
        return cls(None if named is None else named or radii)

    def scores(self, votes: Counts, labels: ArrayLike, certification: Certification) -> Floats:
        """The score of each image, given the `votes` int64 [images, classes] and `labels` [images].

        An image counts with the probabilities that the `certification` is right and that it is
        wrong. So scores from different sigmas and numbers of votes are comparable with each other,
        and with the certificates they predict. The classes among the `labels` weigh the same,
        however many images each has.
        """
        truth = np.asarray(labels)
        if self.radii is None:
            return _of_truth(certification.radius(votes, _cast(votes)), truth)
        certified = certification.probability(votes, _cast(votes), self.radii).mean(axis=2)
        right = _of_truth(certified, truth)
        wrong = certified.sum(axis=1) - right
        classes, places, sizes = np.unique(truth, return_inverse=True, return_counts=True)
        weights = len(truth) / (len(classes) * sizes[places])
        scores: Floats = weights * (right - wrong / max(1, len(classes) - 1))
        return scores


def clean_accuracy(votes: Counts, labels: ArrayLike, certification: Certification) -> Floats:
    """The probability, for each image, that it is certified right at radius 0.

    An image on which the smoothed classifier would abstain counts as wrong. The arguments are those
    of `Objective.scores`.
    """
    certified = certification.probability(votes, _cast(votes), (0.0,))[..., 0]
    return _of_truth(certified, np.asarray(labels))


def _cast(votes: Counts) -> int:
    """The number of votes on an image."""
    return int(votes[0].sum())


def _of_truth(found: Floats, truth: Counts) -> Floats:
    """What was `found` [images, classes] for the true class of each image, [images]."""
    of_truth: Floats = np.take_along_axis(found, truth[:, None], axis=1)[:, 0]
    return of_truth
