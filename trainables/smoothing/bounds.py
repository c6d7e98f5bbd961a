"""Confidence bounds on the probabilities of classes, and the radius they prove."""

from __future__ import annotations

import math
import sys
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Not scipy.stats, which takes half a second to import in each worker.
from scipy.special import betainc, betaincinv, betaln, log_ndtr, ndtr, ndtri

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
# More than the adaptive procedure computes for one image: at each stop, it asks for all before it.
_REMEMBERED = 4096


def posterior(votes: Counts, cast: int, count: int) -> Floats:
    """`count` equally probable values of the probability behind each of `votes` [n] of `cast`.

    They are quantiles [n, count] of its posterior under Jeffreys' prior.
    """
    shares = (np.arange(count) + 0.5) / count
    found: Floats = betaincinv(votes[:, None] + 0.5, cast - votes[:, None] + 0.5, shares)
    return found


@lru_cache(_REMEMBERED)
def lower_bound(votes_top: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: P(bound > true probability) <= alpha; in [0, 1).

    Source: Clopper and Pearson 1934; Cohen et al. 2019, Section 3.2.2.

    Raises:
        ValueError: unless 0 <= votes_top <= n, n > 0 and 0 < alpha < 1.
    """
    if not (0 <= votes_top <= n and n > 0):
        raise ValueError(f"votes_top must be in [0, n], n > 0; got {votes_top} of {n}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1); got {alpha}")
    if votes_top == 0:
        return 0.0
    bound = float(betaincinv(votes_top, n - votes_top + 1, alpha))
    # Rounding in the quantile must not cost soundness: step down until the tail test holds.
    step = 1e-15
    while bound > 0 and betainc(votes_top, n - votes_top + 1, bound) > alpha:
        bound = max(0.0, bound * (1 - step))
        step *= 2
    return bound


def upper_bound(votes: int, n: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: P(bound < true probability) <= alpha; in (0, 1].

    Source: as `lower_bound`, of the votes for all other classes.

    Raises:
        ValueError: unless 0 <= votes <= n, n > 0 and 0 < alpha < 1.
    """
    return min(1.0, math.nextafter(1 - lower_bound(n - votes, n, alpha), 2))


def radius_of(p_lower: float, p_upper: float, sigma: float) -> float:
    """The L2 radius, in pixel units on the [0, 1] scale, that two bounds prove; 0.0: abstain.

    The top class has at least the probability `p_lower`, and every other class at most `p_upper`;
    1 - p_lower always is such a bound. Source: Cohen et al. 2019, Theorem 1.

    Raises:
        ValueError: unless sigma > 0.
    """
    if not sigma > 0:
        raise ValueError(f"sigma must be positive; got {sigma}")
    return float(sigma / 2 * (ndtri(p_lower) - ndtri(p_upper))) if p_lower > p_upper else 0.0


def certified_radius(votes_top: int, n: int, sigma: float, alpha: float) -> float:
    """Certified L2 radius, in pixel units on the [0, 1] scale; 0.0 means abstain.

    The top class received `votes_top` of `n` noisy votes; its probability is bounded from below
    at confidence 1 - alpha, and nothing is known of the other classes. Source: Cohen et al. 2019,
    Theorem 1 and Section 3.2.

    Raises:
        ValueError: unless 0 <= votes_top <= n, n > 0, sigma > 0 and 0 < alpha < 1.
    """
    p_lower = lower_bound(votes_top, n, alpha)
    return radius_of(p_lower, 1 - p_lower, sigma)


@lru_cache(_REMEMBERED)
def log_evidence(votes: int, n: int, quantile: float) -> float:
    """Logarithm of the evidence that a class has a probability above p0 = Phi(`quantile`).

    The evidence is the likelihood ratio against p0, averaged over Jeffreys' prior above p0. If the
    probability is at most p0, it is a supermartingale: the probability that its logarithm ever
    exceeds log(1 / alpha), as more votes are cast, is at most alpha. Source: Ville 1939; Robbins
    1970.

    Raises:
        ValueError: unless 0 <= votes <= n.
    """
    if not 0 <= votes <= n:
        raise ValueError(f"votes must be in [0, n]; got {votes} of {n}")
    # The complement of p0 is accurate near p0 = 1; it is 0 where no number of votes is enough.
    rest, a, b = float(ndtr(-quantile)), votes + 0.5, n - votes + 0.5
    above = float(betainc(b, a, rest))
    # Smaller doubles have too few digits; this far below p0 there is no evidence anyway.
    if above < sys.float_info.min:
        return -math.inf
    return float(
        betaln(a, b)
        - betaln(0.5, 0.5)
        + math.log(above)
        - math.log(betainc(0.5, 0.5, rest))
        - votes * log_ndtr(quantile)
        - (n - votes) * log_ndtr(-quantile)
    )
