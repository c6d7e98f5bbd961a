"""What a search maximises: the certificates a few votes on the tuning images would give."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from trainables.choices import objective_radius
from trainables.errors import InputError
from trainables.smoothing.bounds import certified_radius


class Score(NamedTuple):
    """Mean over the images and its standard error."""

    mean: float
    standard_error: float

    @classmethod
    def of(cls, scores: Sequence[float]) -> Score:
        """The mean of the images' `scores`."""
        mean = sum(scores) / len(scores)
        variance = sum((s - mean) ** 2 for s in scores) / max(1, len(scores) - 1)
        return cls(mean, math.sqrt(variance / len(scores)))


class Objective(NamedTuple):
    """The average certified radius, or the certified accuracy at `radius`."""

    radius: float | None = None

    @classmethod
    def clean_accuracy(cls) -> Objective:
        """The certified accuracy at 0: the share of images that the smoothed classifier gets right.

        An image on which it would abstain counts as wrong.
        """
        return cls(0.0)

    @classmethod
    def parse(cls, text: str) -> Objective:
        """`acr`, `certified-accuracy@R`, or `pareto`: the ACR, beside the clean accuracy.

        Raises:
            InputError: for anything else.
        """
        try:
            return cls(objective_radius(text))
        except ValueError as error:
            raise InputError(str(error), field="objective") from error

    def scores(
        self, votes: Sequence[int], cast: int, *, n: int, sigma: float, alpha: float
    ) -> list[float]:
        """The score of each image, given the `votes` for its true class, of `cast` noisy votes.

        An image counts with the radius that `n` votes would certify at its estimated vote share
        (posterior mean under Jeffreys' prior). Scores are thus comparable across sigmas and numbers
        of votes, and with the certificates they predict.
        """
        shares = [(v + 0.5) / (cast + 1) for v in votes]
        radii = [certified_radius(int(share * n), n, sigma, alpha) for share in shares]
        if self.radius is None:
            return radii
        return [float(r > 0 and r >= self.radius) for r in radii]

    def score(
        self, votes: Sequence[int], cast: int, *, n: int, sigma: float, alpha: float
    ) -> Score:
        """The mean of `scores`."""
        return Score.of(self.scores(votes, cast, n=n, sigma=sigma, alpha=alpha))
