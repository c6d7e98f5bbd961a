"""How many votes a certificate takes, and what they prove: three sound procedures.

All draw a pilot of `n0` votes, which pick a class and are then discarded, and at most `n` fresh
votes, which bound its probability and those of the others. They evaluate the fresh votes at stops
that are fixed in advance.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import takewhile
from typing import ClassVar, NamedTuple

from scipy.special import ndtr, ndtri

from trainables.choices import ProcedureName
from trainables.smoothing.bounds import log_evidence, lower_bound, radius_of, upper_bound
from trainables.smoothing.noise import BLOCK_SIZE
from trainables.smoothing.sufficient import Promise, Votes

# Probability of giving up a radius that could still be certified; it does not affect soundness.
FUTILITY = 0.05
# Successive stops grow by this factor.
_GROWTH = 1.1


class Tally(NamedTuple):
    """Votes for the picked class, and for the runner-up of the others, among the first `n`."""

    n: int
    votes_top: int
    runner_up: int
    votes_runner_up: int

    @classmethod
    def of(cls, n: int, counts: Sequence[int], top: int) -> Tally:
        """What `n` votes say about the class `top`; `counts` are votes for each class."""
        others = [-1 if label == top else votes for label, votes in enumerate(counts)]
        votes = max(others)
        return cls(n, counts[top], others.index(votes), votes)


class Pilot(NamedTuple):
    """The votes that picked a class: `n`, those for it and for the runner-up, of `classes`."""

    n: int
    picked: int
    votes_top: int
    votes_runner_up: int
    classes: int

    @classmethod
    def of(cls, n: int, counts: Sequence[int]) -> Pilot:
        """What `n` votes pick; `counts` are votes for each of at least two classes."""
        second, first = sorted(counts)[-2:]
        return cls(n, list(counts).index(first), first, second, len(counts))

    @property
    def one_class(self) -> bool:
        """Whether the picked class alone is to be bounded, which takes all of alpha.

        If all votes are for it, the others are so rare that a bound on them is not worth half of
        alpha. With two classes, a bound on one bounds the other.
        """
        return self.votes_top == self.n or self.classes == 2


class Claim(NamedTuple):
    """What votes prove: nothing, or a radius in pixel units, and the bounds behind it.

    The proof needs only the `tally`, the pilot and the procedure's own numbers. The picked class
    has at least the probability `p_lower`, every other class at most `p_upper`.
    """

    tally: Tally
    p_lower: float
    p_upper: float
    radius: float
    proved: bool


@dataclass(frozen=True)
class Procedure(ABC):
    """`n0` votes to pick the class, at most `n` to bound its probability, and the level `alpha`.

    `allowance` is how far the probability of the class may be below the probability of a vote for
    it, because the noise that is drawn differs a little from the exact noise.

    Raises:
        ValueError: for numbers out of range.
    """

    n0: int
    n: int
    alpha: float
    allowance: float = field(default=0.0, kw_only=True)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not (self.n0 > 0 and self.n > 0 and 0 < self.alpha < 1):
            raise ValueError(
                "n0 and n must be positive and alpha in (0, 1); got "
                f"{self.n0}, {self.n} and {self.alpha}"
            )

    @abstractmethod
    def next_stop(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> int | None:
        """The number of fresh votes after which to evaluate again; None when there are enough.

        `tallies` holds the votes at all stops so far, in order.
        """

    def claim(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> Claim:
        """What the votes prove when `next_stop` is None.

        The pilot decides which bounds are computed, so its votes must not be among the `tallies`.
        """
        last = tallies[-1]
        if pilot.one_class:
            p_lower = self._bound(last, self.alpha)
            p_upper = 1 - p_lower
        else:
            p_lower = self._bound(last, self.alpha / 2)
            p_upper = min(1 - p_lower, self._bound_others(last, self.alpha / 2))
        radius = radius_of(p_lower, p_upper, sigma)
        return Claim(last, p_lower, p_upper, radius, proved=radius > 0)

    def _bound(self, tally: Tally, alpha: float) -> float:
        return max(0.0, lower_bound(tally.votes_top, tally.n, alpha) - self.allowance)

    def _bound_others(self, tally: Tally, alpha: float) -> float:
        """An upper bound on the probability of every other class.

        What must not be too low is the bound on that one which is in truth the most probable; the
        runner-up's is at least as high. So alpha is not shared between the other classes.
        """
        return min(1.0, upper_bound(tally.votes_runner_up, tally.n, alpha) + self.allowance)


@dataclass(frozen=True)
class Fixed(Procedure):
    """All n votes, Clopper-Pearson bounds. Source: Cohen et al. 2019, Section 3.2.2."""

    name: ClassVar[str] = "fixed"

    def next_stop(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> int | None:
        """As in `Procedure`."""
        return None if tallies else self.n


@dataclass(frozen=True)
class Tolerance(Procedure):
    """As many votes as promise a radius at most `tolerance` (pixel units) below that of n votes.

    They do so for 95 % of the images, judged by the votes that pick the class. Only those votes
    decide the number, so the bound is as valid as for a number fixed in advance. An image is given
    up early when the fresh votes show that n of them would hardly prove a radius above the
    tolerance; nothing is claimed then. Source: Chen et al., AAAI 2022 (arXiv 2112.12084).
    """

    tolerance: float
    name: ClassVar[str] = "tolerance"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.tolerance > 0:
            raise ValueError(f"tolerance must be positive; got {self.tolerance}")

    def next_stop(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> int | None:
        """As in `Procedure`."""
        level = self.alpha if pilot.one_class else self.alpha / 2
        promise = Promise(self.n, level, self.tolerance / sigma, two_class=not pilot.one_class)
        stops = promise.stops(Votes(pilot.n, pilot.votes_top, pilot.votes_runner_up))
        if not tallies:
            return stops[0]
        last = tallies[-1]
        hopeless = promise.is_hopeless(Votes(last.n, last.votes_top, last.votes_runner_up))
        if last.n == stops[-1] or (hopeless and not self.claim(pilot, tallies, sigma).proved):
            return None
        return stops[len(tallies)]


@dataclass(frozen=True)
class Adaptive(Procedure):
    """Decides `radii` (pixel units) one after another, with no more votes than that takes.

    A radius is certified when the evidence that the probability exceeds Phi(radius / sigma) reaches
    2 / alpha at a stop, or when n votes and one Clopper-Pearson test at alpha / 2 say so. It is
    tested after all smaller ones are certified: a false claim then includes one at the smallest
    false radius, whose two tests share alpha, so that more radii cost nothing. Source: Ville 1939;
    Voracek 2024 (confidence sequences for randomized smoothing).
    """

    radii: tuple[float, ...]
    name: ClassVar[str] = "adaptive"

    def __post_init__(self) -> None:
        super().__post_init__()
        ascending = all(a < b for a, b in zip(self.radii, self.radii[1:], strict=False))
        if not (self.radii and ascending and self.radii[0] >= 0 and math.isfinite(self.radii[-1])):
            raise ValueError(f"radii must ascend from 0 or above; got {self.radii}")

    def next_stop(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> int | None:
        """As in `Procedure`."""
        if tallies and self._decide(tallies, sigma).open == 0:
            return None
        return _stops(self.n)[len(tallies)]

    def claim(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> Claim:
        """As in `Procedure`."""
        decided = self._decide(tallies, sigma)
        if decided.tally is None:
            return Claim(tallies[-1], 0.0, 1.0, 0.0, proved=False)
        radius = self.radii[decided.certified - 1]
        p_lower = float(ndtr(radius / sigma))
        return Claim(decided.tally, p_lower, 1 - p_lower, radius, proved=True)

    def _decide(self, tallies: Sequence[Tally], sigma: float) -> _Decisions:
        certified, given_up, proof = 0, len(self.radii), None
        for tally in tallies:
            while certified < given_up and self._proves(tally, self.radii[certified] / sigma):
                certified, proof = certified + 1, tally
            hopeful = takewhile(
                lambda r: not self._hopeless(tally, r / sigma),  # noqa: B023
                self.radii[certified:given_up],
            )
            given_up = certified + len(list(hopeful))
        return _Decisions(certified, given_up - certified, proof)

    def _proves(self, tally: Tally, quantile: float) -> bool:
        n, votes_top, *_ = tally
        if log_evidence(votes_top, n, self._raised(quantile)) >= math.log(2 / self.alpha):
            return True
        return n == self.n and self._bound(tally, self.alpha / 2) >= ndtr(quantile)

    def _raised(self, quantile: float) -> float:
        """The quantile that votes must exceed for the class to exceed `quantile`."""
        if not self.allowance:
            return quantile
        rest = float(ndtr(-quantile)) - self.allowance
        return -float(ndtri(rest)) if rest > 0 else math.inf

    def _hopeless(self, tally: Tally, quantile: float) -> bool:
        n, votes_top, *_ = tally
        if n == self.n:
            return True
        unanimous = tally._replace(n=self.n, votes_top=votes_top + self.n - n)
        most = self._bound(unanimous, self.alpha / 2)
        # The same kind of evidence for the opposite: that the probability is below `quantile`.
        against = log_evidence(n - votes_top, n, -quantile)
        return most < ndtr(quantile) or against >= math.log(1 / FUTILITY)


class _Decisions(NamedTuple):
    """How many radii are certified and how many open; `tally` proves the largest certified one."""

    certified: int
    open: int
    tally: Tally | None


def make_procedure(
    name: ProcedureName,
    n0: int,
    n: int,
    alpha: float,
    *,
    tolerance: float,
    radii: tuple[float, ...],
) -> Procedure:
    """The procedure called `name`; only some need `tolerance` or `radii`.

    Raises:
        ValueError: for numbers out of range.
    """
    if name == "tolerance":
        return Tolerance(n0, n, alpha, tolerance)
    if name == "adaptive":
        return Adaptive(n0, n, alpha, radii)
    return Fixed(n0, n, alpha)


@cache
def _stops(n: int) -> tuple[int, ...]:
    """Multiples of the block size, ever farther apart, up to n."""
    stops = [min(BLOCK_SIZE, n)]
    while stops[-1] < n:
        blocks = math.ceil(stops[-1] * _GROWTH / BLOCK_SIZE)
        stops.append(min(n, max(blocks * BLOCK_SIZE, stops[-1] + BLOCK_SIZE)))
    return tuple(stops)
