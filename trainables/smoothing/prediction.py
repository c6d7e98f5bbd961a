"""What many votes would certify, predicted from a few: the posterior predictive distribution.

A plug-in estimate would cap what is predicted at what the few votes can prove. Here the unknown
probability of a class has its posterior under Jeffreys' prior, and the many votes are drawn from
it, so that predictions from different numbers of votes agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv, ndtri

from trainables.smoothing.bounds import Counts, Floats, certified_radius, posterior

# Equally probable values that stand for the posterior of a probability.
_QUANTILES = 100


class Certification(NamedTuple):
    """The certificates that are predicted: `n` votes under noise of `sigma`, at level `alpha`."""

    n: int
    sigma: float
    alpha: float

    def probability(self, votes: Counts, cast: int, radii: Sequence[float]) -> Floats:
        """The probability that `n` fresh votes certify a class at each of the `radii`.

        `votes` [...] of `cast` votes were for the class; the result is [..., radii].
        """
        seen, places = np.unique(votes, return_inverse=True)
        p = posterior(seen, cast, _QUANTILES)
        found = np.zeros((len(seen), len(radii)))
        for column, radius in enumerate(radii):
            needed = self.votes_needed(radius)
            if needed <= self.n:
                found[:, column] = betainc(needed, self.n - needed + 1, p).mean(axis=1)
        return found[places.reshape(votes.shape)]

    def radius(self, votes: Counts, cast: int) -> Floats:
        """The expected radius of the certificate for a class; 0 where it would abstain.

        `votes` [...] of `cast` votes were for the class; the result has the same shape.
        """
        seen, places = np.unique(votes, return_inverse=True)
        top = self.n * posterior(seen, cast, _QUANTILES)
        radii = self.sigma * np.maximum(ndtri(betaincinv(top, self.n - top + 1, self.alpha)), 0)
        mean: Floats = radii.mean(axis=1)
        return mean[places.reshape(votes.shape)]

    def votes_needed(self, radius: float) -> int:
        """The fewest of `n` votes for a class that certify it at `radius`; n + 1 if none do."""
        return _votes_needed(self.n, self.alpha, radius / self.sigma)

    @property
    def largest_radius(self) -> float:
        """The radius that `n` equal votes prove."""
        return certified_radius(self.n, self.n, self.sigma, self.alpha)


@cache
def _votes_needed(n: int, alpha: float, radius: float) -> int:
    """As `Certification.votes_needed`, with the radius in units of sigma."""
    least, most = 0, n + 1
    while least < most:
        votes = (least + most) // 2
        proved = certified_radius(votes, n, 1.0, alpha)
        if proved > 0 and proved >= radius:
            most = votes
        else:
            least = votes + 1
    return least
