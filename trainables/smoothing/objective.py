"""What a search maximises: the certificates a few votes on the tuning images would give."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from trainables.errors import InputError
from trainables.smoothing.bounds import certified_radius


class Score(NamedTuple):
    """Mean over the images and its standard error."""

    mean: float
    standard_error: float


class Objective(NamedTuple):
    """The average certified radius, or the certified accuracy at `radius`."""

    radius: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """`acr` or `certified-accuracy@R`.

        Raises:
            InputError: for anything else.
        """
        if text == "acr":
            return cls()
        match = re.fullmatch(r"certified-accuracy@(\d+(?:\.\d+)?)", text)
        if match is None:
            raise InputError(
                f"--objective: {text!r} is unknown; pass acr or certified-accuracy@R, for "
                "example certified-accuracy@0.5"
            )
        return cls(float(match.group(1)))

    def score(
        self, votes: Sequence[int], cast: int, *, n: int, sigma: float, alpha: float
    ) -> Score:
        """Score of images whose true class got `votes` of the `cast` noisy votes each.

        An image counts with the radius that `n` votes would certify at its estimated vote share
        (posterior mean under Jeffreys' prior). Scores are thus comparable across sigmas, with
        scores from another number of votes, and with the certificates they predict.
        """
        shares = [(v + 0.5) / (cast + 1) for v in votes]
        radii = [certified_radius(int(share * n), n, sigma, alpha) for share in shares]
        if self.radius is not None:
            radii = [float(r > 0 and r >= self.radius) for r in radii]
        mean = sum(radii) / len(radii)
        variance = sum((r - mean) ** 2 for r in radii) / max(1, len(radii) - 1)
        return Score(mean, math.sqrt(variance / len(radii)))
