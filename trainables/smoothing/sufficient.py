"""How many votes are enough for nearly the radius that all `n` would prove.

Of n votes, N for a class, the first m are a sample without replacement. They prove less for two
reasons: bounds from fewer votes are wider, and by chance the sample may have fewer votes for the
class than its share. Given N, the chance follows the hypergeometric distribution whatever the
probability of the class is; so all that has to be guessed is N. It is guessed from votes that are
not among the n, which leaves bounds as valid as for a number of votes fixed in advance.

Source: Chen et al., AAAI 2022 (arXiv 2112.12084, input-specific sampling), for the first reason.
"""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri

from trainables.smoothing.bounds import Floats
from trainables.smoothing.noise import BLOCK_SIZE

# Of the 5 % of images that may lose more than the tolerance, 1 % may be given up wrongly. 4.5 % are
# left for the others, because the two do not add up where it matters.
_GIVEN_UP, _LOSING = 0.01, 0.045
# Equally probable values that represent the unknown probabilities, and the most favourable one.
_QUANTILES = np.append((np.arange(16) + 0.5) / 16, 1 - _GIVEN_UP)
# What the share may be at any of these values. A pilot is unanimous however close to 1 the
# probability is, so that there a single value matters more; above 5 % because shares are
# overestimated where only a few votes are for other classes.
_WORST, _WORST_UNANIMOUS = 0.3, 0.15
# Votes are planned for the values at which n votes prove so many times the tolerance: below it
# nothing can be lost, and just above it hardly anything.
_WORTH = 1.5
# Parts of the votes after which images are given up that turn out to be hopeless.
_EARLY = (1 / 8, 1 / 4, 1 / 2)
# At which multiple of the standard deviation the effect of chance is evaluated.
_DEVIATIONS = 1.645


class Votes(NamedTuple):
    """Of `cast` votes, those for the picked class and for the runner-up of the others."""

    cast: int
    top: int
    runner_up: int


class Promise(NamedTuple):
    """A radius at most `tolerance` below that of all `n` votes, for 95 % of the images.

    The radius is in units of sigma. Every bound is at `level`; with `two_class` there is one on the
    probability of the picked class and one on that of the runner-up, otherwise only the former.

        promise = Promise(n=10_000, level=0.001, tolerance=0.02 / 0.25, two_class=False)
        promise.sufficient(Votes(cast=100, top=80, runner_up=12))   # 2800
    """

    n: int
    level: float
    tolerance: float
    two_class: bool

    def sufficient(self, pilot: Votes) -> int:
        """How many fresh votes keep the promise, judged by the votes of the pilot.

        A multiple of the block size, or n.
        """
        return self.stops(pilot)[-1]

    def stops(self, pilot: Votes) -> tuple[int, ...]:
        """Numbers of votes after which to see whether it is hopeless; the last one is sufficient.

        Whoever stops before it must claim nothing.
        """
        return _stops(self, pilot)

    def is_hopeless(self, votes: Votes) -> bool:
        """Whether n votes would hardly prove a radius above the tolerance, judged by `votes`."""
        top, runner_up = _probabilities(votes, np.array([1 - _GIVEN_UP]))
        return bool(self._radius(self.n, top, runner_up)[0] <= self.tolerance)

    def share_losing(self, votes: int, top: Floats, runner_up: Floats) -> Floats:
        """The share of images that lose more than the tolerance if there are so many `votes`.

        `top` and `runner_up` are the shares of the two classes among n votes. Source of the spread:
        the hypergeometric distribution, in which the votes for one class are missing for the other.
        """
        spread = _DEVIATIONS * math.sqrt((1 - votes / self.n) / votes)
        low, high = self._bounds(votes, top, runner_up)
        fewer = np.maximum(top - spread * np.sqrt(top * (1 - top)), 0)
        more = np.minimum(runner_up + spread * np.sqrt(runner_up * (1 - runner_up)), 1)
        a, b = (low, high) - np.array(self._bounds(votes, fewer, more))
        neither = np.maximum((1 - top) * (1 - runner_up), 1e-300)
        together = np.sqrt(np.minimum(top * runner_up / neither, 1))
        both = np.sqrt(a**2 + b**2 + 2 * together * a * b) / 2
        deviation = np.where(high > low, both, a) / _DEVIATIONS
        lost = self._radius(self.n, top, runner_up) - (low + np.maximum(low, high)) / 2
        share: Floats = ndtr((lost - self.tolerance) / np.maximum(deviation, 1e-12))
        return share

    def _radius(self, n: int, top: Floats, runner_up: Floats) -> Floats:
        """What n votes prove if these are the shares of the two classes; negative if nothing."""
        low, high = self._bounds(n, top, runner_up)
        radius: Floats = (low + np.maximum(low, high)) / 2
        return radius

    def _bounds(self, n: int, top: Floats, runner_up: Floats) -> tuple[Floats, Floats]:
        """Normal quantiles of the bounds on the class, and on everything but the runner-up."""
        low = self._bound(n, top)
        return low, self._bound(n, 1 - runner_up) if self.two_class else low

    def _bound(self, n: int, share: Floats) -> Floats:
        votes = np.maximum(n * share, 1e-9)
        quantile: Floats = ndtri(betaincinv(votes, n - votes + 1, self.level))
        return quantile


def _probabilities(votes: Votes, quantiles: Floats) -> tuple[Floats, Floats]:
    """Of the two classes, from the least to the most favourable, under Jeffreys' prior."""
    top = betaincinv(votes.top + 0.5, votes.cast - votes.top + 0.5, quantiles)
    rest = votes.cast - votes.runner_up
    runner_up = betaincinv(votes.runner_up + 0.5, rest + 0.5, 1 - quantiles)
    return top, np.minimum(runner_up, 1 - top)


@cache
def _stops(promise: Promise, pilot: Votes) -> tuple[int, ...]:
    votes = _sufficient(promise, pilot)
    early = (math.ceil(votes * part / BLOCK_SIZE) * BLOCK_SIZE for part in _EARLY)
    return (*sorted({stop for stop in early if stop < votes}), votes)


def _sufficient(promise: Promise, pilot: Votes) -> int:
    if promise.is_hopeless(pilot):
        return min(BLOCK_SIZE, promise.n)
    top, runner_up = _probabilities(pilot, _QUANTILES)
    worth = promise._radius(promise.n, top, runner_up) > _WORTH * promise.tolerance
    worth[-1] |= not worth.any()
    top, runner_up = top[worth], runner_up[worth]
    worst = _WORST if pilot.top < pilot.cast else _WORST_UNANIMOUS
    few, many = 0, math.ceil(promise.n / BLOCK_SIZE)
    while many - few > 1:
        blocks = (few + many) // 2
        losing = promise.share_losing(blocks * BLOCK_SIZE, top, runner_up)
        if losing.mean() <= _LOSING and losing.max() <= worst:
            many = blocks
        else:
            few = blocks
    return min(many * BLOCK_SIZE, promise.n)
