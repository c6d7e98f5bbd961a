"""Which votes a certificate needs, and what they prove.

Source: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
ICML 2019, Section 3.2.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import NamedTuple

from trainables.smoothing.procedures import Pilot, Procedure, Tally

ABSTAIN = -1


class Certificate(NamedTuple):
    """What the votes prove about one image; `predicted` is -1 for an abstention.

    `radius` is an L2 radius in pixel units on the [0, 1] scale, 0.0 for an abstention. `p_lower`
    bounds the probability of the class that was picked from below, `p_upper` that of every other
    class from above, together at confidence 1 - alpha, by the rule of `procedure`. Of `n` votes,
    `votes_top` were for the class picked, and `votes_runner_up` for `runner_up`, the other class
    with the most. It was picked by `votes_selected` of `n0` votes; no other class had more than
    `votes_selected_runner_up`. `votes` is the number of all votes cast. `joint_radius` is what the
    same votes prove for all images together, such that the probability that any of these
    certificates is wrong is at most alpha; None: nothing.
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
    runner_up: int
    votes_runner_up: int
    p_upper: float
    votes_selected: int
    votes_selected_runner_up: int
    joint_radius: float | None


class Request(NamedTuple):
    """Votes needed: the draws from `start` to `stop` of an image's stream for the purpose `phase`.

    `start` is a multiple of the block size.
    """

    phase: str
    start: int
    stop: int


def certifying(
    procedure: Procedure, sigma: float, images: int = 1
) -> Generator[Request, list[int], Certificate]:
    """A generator that yields requests, is sent votes per class, and returns the certificate.

    It is one of as many `images`, among which the joint radius shares alpha (Bonferroni).

    Raises:
        ValueError: when it is sent more votes than it asked for, or sigma is not positive.
    """
    request = Request("select", 0, procedure.n0)
    selection = _checked((yield request), request)
    pilot = Pilot.of(procedure.n0, selection)
    counts, tallies = [0] * len(selection), list[Tally]()
    while (stop := procedure.next_stop(pilot, tallies, sigma)) is not None:
        request = Request("estimate", tallies[-1].n if tallies else 0, stop)
        fresh = _checked((yield request), request)
        counts = [a + b for a, b in zip(counts, fresh, strict=True)]
        tallies.append(Tally.of(stop, counts, pilot.picked))
    claim = procedure.claim(pilot, tallies, sigma)
    sharing = replace(procedure, alpha=procedure.alpha / images)
    joint = sharing.claim(pilot, [claim.tally], sigma)
    return Certificate(
        predicted=pilot.picked if claim.proved else ABSTAIN,
        radius=claim.radius,
        votes_top=claim.tally.votes_top,
        n=claim.tally.n,
        n0=procedure.n0,
        p_lower=claim.p_lower,
        sigma=sigma,
        alpha=procedure.alpha,
        procedure=procedure.name,
        votes=procedure.n0 + tallies[-1].n,
        runner_up=claim.tally.runner_up,
        votes_runner_up=claim.tally.votes_runner_up,
        p_upper=claim.p_upper,
        votes_selected=pilot.votes_top,
        votes_selected_runner_up=pilot.votes_runner_up,
        joint_radius=joint.radius if joint.proved else None,
    )


def _checked(counts: list[int], request: Request) -> list[int]:
    if sum(counts) > request.stop - request.start:
        raise ValueError(f"{sum(counts)} votes of {request.stop - request.start}: too many")
    return counts
