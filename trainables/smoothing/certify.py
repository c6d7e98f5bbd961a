"""Which votes a certificate needs, and what they prove.

Source: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
ICML 2019, Section 3.2.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

from trainables.smoothing.procedures import Procedure, Tally

ABSTAIN = -1


class Certificate(NamedTuple):
    """What the votes prove about one image; `predicted` is -1 for an abstention.

    `radius` is an L2 radius in pixel units on the [0, 1] scale, 0.0 for an abstention. `p_lower`
    bounds the probability of `predicted` from below at confidence 1 - alpha, by `votes_top` of `n`
    votes and the rule of `procedure`. `votes` is the number of all votes cast.
    """

    predicted: int
    radius: float
    votes_top: int
    n: int
    n0: int
    p_lower: float
    sigma: float
    alpha: float
    procedure: str
    votes: int


class Request(NamedTuple):
    """Votes needed: the draws from `start` to `stop` of an image's stream for the purpose `phase`.

    `start` is a multiple of the block size.
    """

    phase: str
    start: int
    stop: int


def certifying(procedure: Procedure, sigma: float) -> Generator[Request, list[int], Certificate]:
    """A generator that yields requests, is sent votes per class, and returns the certificate.

    Raises:
        ValueError: when it is sent more votes than it asked for, or sigma is not positive.
    """
    request = Request("select", 0, procedure.n0)
    selection = _checked((yield request), request)
    top = max(range(len(selection)), key=selection.__getitem__)
    tallies: list[Tally] = []
    while (stop := procedure.next_stop(selection[top], tallies, sigma)) is not None:
        seen = tallies[-1] if tallies else Tally(0, 0)
        request = Request("estimate", seen.n, stop)
        counts = _checked((yield request), request)
        tallies.append(Tally(stop, seen.votes_top + counts[top]))
    claim = procedure.claim(tallies, sigma)
    return Certificate(
        predicted=top if claim.proved else ABSTAIN,
        radius=claim.radius,
        votes_top=claim.tally.votes_top,
        n=claim.tally.n,
        n0=procedure.n0,
        p_lower=claim.p_lower,
        sigma=sigma,
        alpha=procedure.alpha,
        procedure=procedure.name,
        votes=procedure.n0 + tallies[-1].n,
    )


def _checked(counts: list[int], request: Request) -> list[int]:
    if sum(counts) > request.stop - request.start:
        raise ValueError(f"{sum(counts)} votes of {request.stop - request.start}: too many")
    return counts
