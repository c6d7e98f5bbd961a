"""What many votes would certify, predicted from a few: the posterior predictive distribution.

A plug-in estimate would cap what is predicted at what the few votes can prove. Here the unknown
probabilities of the classes have their posterior under Jeffreys' prior, and the many votes are
drawn from it, so that predictions from different numbers of votes agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import betainc, betaincinv, ndtr, ndtri

from trainables.smoothing.bounds import Counts, Floats, certified_radius, posterior

# Equally probable values that stand for the posterior of a probability.
_QUANTILES = 100
# The quantiles of the runner-up's share in what is left, one for each of these values: multiples of
# the golden ratio fill the unit square evenly.
_SHARES = (np.arange(_QUANTILES) + 0.5) * (math.sqrt(5) - 1) / 2 % 1
# Numbers of votes for which a bound is computed; between them it is interpolated.
_POINTS = 2000
# Stands for an infinite quantile of the normal distribution.
_FAR = 40.0


class Certification(NamedTuple):
    """The certificates that are predicted: `n` votes under noise of `sigma`, at level `alpha`.

    As in `procedures`, a class is bounded alone if all of `n0` votes are for it.

        Certification(100, 10_000, 0.25, 0.001).probability(np.array([[90, 10, 0]]), 100, [0.5])
    """

    n0: int
    n: int
    sigma: float
    alpha: float

    def probability(self, votes: Counts, cast: int, radii: Sequence[float]) -> Floats:
        """The probability that `n` fresh votes certify each class at each of the `radii`.

        `votes` [..., classes] of `cast` votes were for each class; the result is
        [..., classes, radii].
        """
        cases, places = _Cases.of(votes, cast)
        both = self._difference(cases)
        found = np.zeros((len(cases.p), len(radii)))
        for column, radius in enumerate(radii):
            needed = self.votes_needed(radius)
            alone = betainc(needed, self.n - needed + 1, cases.p) if needed <= self.n else 0.0
            beside = ndtr((both.mean - 2 * radius / self.sigma) / both.deviation)
            found[:, column] = self._mixed(cases, alone, beside)
        return found[places]

    def radius(self, votes: Counts, cast: int) -> Floats:
        """The expected radius of the certificate for each class; 0 where it would abstain.

        `votes` [..., classes] of `cast` votes were for each class; the result has the same shape.
        """
        cases, places = _Cases.of(votes, cast)
        alone = np.maximum(_quantiles(self.n, self.alpha).at(cases.p), 0)
        beside = np.maximum(self._difference(cases).mean / 2, 0)
        return self.sigma * self._mixed(cases, alone, beside)[places]

    def votes_needed(self, radius: float) -> int:
        """The fewest of `n` votes for a class that certify it at `radius`; n + 1 if none do.

        Nothing is known of the other classes.
        """
        return _votes_needed(self.n, self.alpha, radius / self.sigma)

    def _mixed(self, cases: _Cases, alone: Floats | float, beside: Floats) -> Floats:
        """The mean [cases] over what is found with a bound on one class `alone`, and on all."""
        agree = cases.p**self.n0 if cases.classes > 2 else 1.0
        mean: Floats = (agree * alone + (1 - agree) * beside).mean(axis=1)
        return mean

    def _difference(self, cases: _Cases) -> _Normal:
        """The difference of the two bounds' quantiles, of which the radius is sigma / 2."""
        n, p, q = self.n, cases.p, cases.runner_up
        bounds = _quantiles(n, self.alpha / 2)
        low, high = bounds.at(p), bounds.at(1 - q)
        # Of two bounds on the runner-up the better one counts: its own, and what the top leaves.
        own = high > low
        slope, other = bounds.slope(p), np.where(own, bounds.slope(1 - q), bounds.slope(p))
        q = np.where(own, q, 1 - p)
        variance = n * (p * (1 - p) * slope**2 + q * (1 - q) * other**2 + 2 * p * q * slope * other)
        return _Normal(low + np.maximum(low, high), np.sqrt(np.maximum(variance, 1e-18)))


class _Normal(NamedTuple):
    """A normal distribution for each entry."""

    mean: Floats
    deviation: Floats


class _Cases(NamedTuple):
    """Values of the probability `p` of a class and that of its `runner_up`, [cases, values].

    They stand for the posterior given the votes for the two, of which there are few different ones.
    """

    p: Floats
    runner_up: Floats
    classes: int

    @classmethod
    def of(cls, votes: Counts, cast: int) -> tuple[_Cases, Counts]:
        """The cases among `votes` [..., classes] of `cast`, and the case of each entry."""
        second, first = np.moveaxis(np.sort(votes, axis=-1)[..., -2:], -1, 0)[..., None]
        # The runner-up of the top class is the second, that of any other class is the top class.
        top = np.arange(votes.shape[-1]) == votes.argmax(axis=-1)[..., None]
        pairs = np.stack((votes, np.where(top, second, first)), axis=-1)
        seen, places = np.unique(pairs.reshape(-1, 2), axis=0, return_inverse=True)
        p = posterior(seen[:, 0], cast, _QUANTILES)
        rest = np.maximum(cast - seen.sum(axis=1), 0)
        share = betaincinv(seen[:, 1:] + 0.5, rest[:, None] + 0.5, _SHARES)
        cases = cls(p, (1 - p) * share, votes.shape[-1])
        return cases, places.reshape(votes.shape)


class _Quantiles(NamedTuple):
    """The normal quantile of the lower bound on a probability, by the `share` of votes for it."""

    share: Floats
    quantile: Floats
    derivative: Floats

    def at(self, share: Floats) -> Floats:
        """The quantile of the bound if this share of the votes is for the class."""
        found: Floats = np.interp(share, self.share, self.quantile)
        return found

    def slope(self, share: Floats) -> Floats:
        """By how much one vote more raises it."""
        found: Floats = np.interp(share, self.share, self.derivative)
        return found


@cache
def _quantiles(n: int, alpha: float) -> _Quantiles:
    """The quantiles of bounds at level `alpha` from `n` votes."""
    # Closer to each other where bounds change faster.
    even = np.linspace(0, np.pi / 2, _POINTS)
    votes = np.unique(np.round(n * np.sin(even) ** 2))
    # Without votes the bound is 0 and its quantile infinite; with them it is smooth.
    some = ndtri(betaincinv(votes[1:], n - votes[1:] + 1, alpha))
    slope = np.gradient(some, votes[1:]) if len(some) > 1 else np.zeros(1)
    return _Quantiles(votes / n, np.append(-_FAR, some), np.append(slope[0], slope))


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
