"""Every procedure is sound at its level, and a check that a procedure which is not would fail."""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mpmath import mp
from scipy.special import ndtri
from scipy.stats import beta, binom, norm
from torch import Tensor, nn

from trainables.smoothing import procedures
from trainables.smoothing.bounds import log_evidence, lower_bound
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import (
    Adaptive,
    Claim,
    Fixed,
    Pilot,
    Procedure,
    Tally,
    Tolerance,
)
from trainables.smoothing.sufficient import Promise, Votes

SIGMA = 0.5


def pilot(selected: int, n0: int = 100) -> Pilot:
    """A pilot that picks the first of two classes, whatever its votes."""
    return Pilot(n0, 0, selected, n0 - selected, 2)


def tally(n: int, votes: int) -> Tally:
    """Votes for the first of two classes."""
    return Tally(n, votes, 1, n - votes)


def run(
    procedure: Procedure, p: float, generator: np.random.Generator, selected: int | None = None
) -> tuple[int, Claim]:
    """Fresh votes and claim for a class with the true probability p."""
    if selected is None:
        selected = int(generator.binomial(procedure.n0, p))
    picked = pilot(selected, procedure.n0)
    n, votes, tallies = 0, 0, list[Tally]()
    while (stop := procedure.next_stop(picked, tallies, SIGMA)) is not None:
        votes += int(generator.binomial(stop - n, p))
        n = stop
        tallies.append(tally(n, votes))
    return n, procedure.claim(picked, tallies, SIGMA)


class Peeking(Procedure):
    """Unsound: the bound for a fixed number of votes, tried after every 100 until it suffices."""

    name: ClassVar[str] = "peeking"
    radius = 0.25

    def next_stop(self, pilot: Pilot, tallies: Sequence[Tally], sigma: float) -> int | None:
        enough = bool(tallies) and self.claim(pilot, tallies, sigma).radius >= self.radius
        done = enough or (bool(tallies) and tallies[-1].n == self.n)
        return None if done else 100 * (len(tallies) + 1)


@pytest.fixture
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many certificates of one probability meet the same counts again and again."""
    for function in (log_evidence, lower_bound):
        monkeypatch.setattr(procedures, function.__name__, cache(function))


def over_claims(procedure: Procedure, p: float) -> int:
    """How many of `CERTIFICATES` claim more than the truth."""
    generator = np.random.default_rng(7)
    return sum(run(procedure, p, generator)[1].p_lower > p for _ in range(CERTIFICATES))


# Just below Phi(radius / SIGMA) of a radius that the adaptive procedure may claim.
BELOW = [float(norm.cdf(r / SIGMA)) - 1e-12 for r in (0.25, 0.5)]
ALPHA = 0.05
CERTIFICATES = 4000
# More of them than this happens to a sound procedure once in a million times.
MOST = int(binom.isf(1e-6, CERTIFICATES, ALPHA))


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("p", [0.5, *BELOW])
@pytest.mark.parametrize(
    "procedure",
    [
        Fixed(100, 1000, ALPHA),
        Tolerance(100, 1000, ALPHA, 0.02),
        Adaptive(100, 1000, ALPHA, (0.25,)),
        Adaptive(100, 1000, ALPHA, (0.0, 0.25, 0.5, 0.75)),
    ],
    ids=["fixed", "tolerance", "one radius", "four radii"],
)
def test_no_procedure_claims_too_much_more_often_than_alpha(procedure: Procedure, p: float) -> None:
    assert over_claims(procedure, p) <= MOST


@pytest.mark.usefixtures("remembered")
@pytest.mark.parametrize("p", [0.5 - 1e-12, *BELOW])
@pytest.mark.parametrize(
    "procedure",
    [
        Fixed(100, 1000, ALPHA),
        Tolerance(100, 1000, ALPHA, 0.02),
        Adaptive(100, 1000, ALPHA, (0.0, 0.25, 0.5)),
    ],
    ids=["fixed", "tolerance", "adaptive"],
)
def test_votes_may_favour_the_class_by_the_allowance(procedure: Procedure, p: float) -> None:
    # Far more than any noise needs, so that a bound without it is caught.
    allowed = replace(procedure, allowance=0.02)
    generator = np.random.default_rng(8)
    wrong = {
        one: sum(run(one, p + 0.02, generator)[1].p_lower > p for _ in range(CERTIFICATES))
        for one in (procedure, allowed)
    }
    assert wrong[allowed] <= MOST < wrong[procedure]


@pytest.mark.usefixtures("remembered")
def test_this_check_finds_a_procedure_that_peeks() -> None:
    assert over_claims(Peeking(100, 1000, ALPHA), BELOW[0]) > MOST


def exact_error(procedure: Adaptive, quantile: float) -> float:
    """The probability that a class of probability exactly Phi(quantile) is ever proved above it.

    By dynamic programming over the stops; giving up early, which only helps, is left out.
    """
    p, error, before = float(norm.cdf(quantile)), 0.0, 0
    alive = np.ones(1)
    for stop in procedures._stops(procedure.n):
        alive = np.convolve(alive, binom.pmf(np.arange(stop - before + 1), stop - before, p))
        before = stop
        # Elsewhere lies less than can be computed.
        for votes in np.flatnonzero(alive > 1e-18):
            if procedure._proves(tally(stop, int(votes)), quantile):
                error += alive[votes]
                alive[votes] = 0.0
    return error


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize(("n", "quantile"), [(1000, 0.0), (1000, 0.5), (1000, 1.5), (10_000, 1.0)])
def test_the_exact_error_of_the_adaptive_rule_is_at_most_alpha(
    n: int, quantile: float, alpha: float
) -> None:
    error = exact_error(Adaptive(100, n, alpha, (0.25,)), quantile)
    assert alpha / 10 < error <= alpha


@settings(deadline=None, max_examples=100)
@given(st.integers(1, 3000), st.floats(0, 1), st.floats(-2, 5))
@example(1001, 0.203125, 0.75)  # what is left above p0 is no normal double
def test_the_evidence_is_the_likelihood_ratio_averaged_over_the_prior(
    n: int, share: float, quantile: float
) -> None:
    votes = round(share * n)
    with mp.workdps(50):
        p0, rest = mp.ncdf(quantile), mp.ncdf(-quantile)
        averaged = mp.betainc(n - votes + 0.5, votes + 0.5, 0, rest) / mp.betainc(0.5, 0.5, 0, rest)
        expected = mp.log(averaged) - votes * mp.log(p0) - (n - votes) * mp.log(rest)
    found = log_evidence(votes, n, quantile)
    if found == -math.inf:
        # Too small for a double, and no evidence at all.
        assert expected < 0
    else:
        assert found == pytest.approx(float(expected), rel=1e-6, abs=1e-6)


@given(st.integers(0, 100), st.integers(100, 100_000), st.sampled_from([0.05, 0.001, 1e-6]))
def test_a_tolerance_costs_less_the_larger_it_is(selected: int, n: int, alpha: float) -> None:
    numbers = [
        Promise(n, alpha, tolerance / 0.25, two_class=False).sufficient(Votes(100, selected, 0))
        for tolerance in (1e-9, 0.01, 0.02, 0.1, 10)
    ]
    assert numbers == sorted(numbers, reverse=True)
    assert all(1 <= number <= n for number in numbers)


def test_an_image_is_given_up_early_only_without_a_claim() -> None:
    generator, procedure = np.random.default_rng(3), Tolerance(100, 10_000, 0.001, 0.02)
    promise = Promise(10_000, 0.001, 0.02 / SIGMA, two_class=False)
    early, cast = 0, []
    for p in generator.uniform(0.4, 0.6, 400):
        selected = int(generator.binomial(100, p))
        votes, claim = run(procedure, p, generator, selected)
        *stops, sufficient = promise.stops(Votes(100, selected, 0))
        assert claim.tally.n == votes
        if votes < sufficient:
            early += 1
            assert votes in stops
            assert (claim.proved, claim.radius) == (False, 0.0)
        cast.append(votes)
    assert early > 100
    assert np.mean(cast) < 10_000 / 3


def test_radii_are_decided_with_few_votes_and_monotonically() -> None:
    generator, procedure = np.random.default_rng(5), Adaptive(100, 10_000, 0.001, (0.25, 0.5, 0.75))
    found = {}
    for radius in (0.1, 0.4, 0.9):
        results = [run(procedure, float(norm.cdf(radius / SIGMA)), generator) for _ in range(40)]
        found[radius] = {claim.radius for _, claim in results}
        assert np.mean([votes for votes, _ in results]) < 5000
    assert found == {0.1: {0.0}, 0.4: {0.25}, 0.9: {0.75}}


def test_a_claim_is_recomputed_from_its_own_counts() -> None:
    generator, procedure = np.random.default_rng(6), Adaptive(100, 2000, 0.01, (0.25, 0.5))
    for p in generator.uniform(0.6, 0.999, 200):
        _, claim = run(procedure, p, generator)
        n, votes, *_ = claim.tally
        if claim.radius:
            assert claim.radius == pytest.approx(SIGMA * ndtri(claim.p_lower), abs=1e-9)
            proved = log_evidence(votes, n, claim.radius / SIGMA) >= math.log(2 / 0.01)
            # The other test is made once, at the end: at any other stop it would be peeking.
            last = n == procedure.n and beta.ppf(0.005, votes, n - votes + 1) >= claim.p_lower
            assert proved or last
            # So the bound for a fixed number of votes holds as well.
            assert beta.ppf(0.01, votes, n - votes + 1) >= claim.p_lower


def test_a_radius_beyond_what_n_votes_can_prove_is_given_up_at_once() -> None:
    procedure = Adaptive(100, 1000, 0.001, (0.25, 9.0))
    votes, claim = run(procedure, 1.0, np.random.default_rng(0))
    assert (votes, claim.radius) == (100, 0.25)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0, 10, 0.1),
        lambda: Fixed(10, 0, 0.1),
        lambda: Fixed(10, 10, 1.0),
        lambda: Tolerance(10, 10, 0.1, 0.0),
        lambda: Adaptive(10, 10, 0.1, ()),
        lambda: Adaptive(10, 10, 0.1, (0.5, 0.25)),
        lambda: Adaptive(10, 10, 0.1, (-0.5,)),
        lambda: Adaptive(10, 10, 0.1, (math.inf,)),
    ],
)
def test_numbers_out_of_range_are_refused(make: object) -> None:
    with pytest.raises(ValueError, match="must"):
        make()  # type: ignore[operator]


class HalfSpace(nn.Module):
    """Class 1 on one side of a hyperplane."""

    def __init__(self, normal: Tensor, offset: float) -> None:
        super().__init__()
        self.normal, self.offset = normal, offset

    def forward(self, x: Tensor) -> Tensor:
        side = x.flatten(1) @ self.normal - self.offset
        return torch.stack([-side, side], dim=1)


def test_the_radius_of_a_linear_classifier_never_exceeds_the_distance_to_its_boundary() -> None:
    generator = torch.Generator().manual_seed(11)
    every = [
        Fixed(20, 400, 1e-6),
        Tolerance(20, 400, 1e-6, 0.02),
        Adaptive(20, 400, 1e-6, (0.25, 0.5)),
    ]
    certified = 0
    for case in range(1000):
        normal = torch.randn(6, generator=generator)
        image = torch.rand(1, 2, 3, generator=generator)
        distance = 1.5 * float(torch.rand((), generator=generator)) ** 2
        offset = float(image.flatten() @ normal - distance * normal.norm())
        model, blocks = HalfSpace(normal, offset), plan_blocks(400, case)
        votes = total_votes(model, image, Noise(SIGMA), blocks)[1]
        procedure = every[case % 3]
        claim = procedure.claim(pilot(11, 20), [tally(400, votes)], SIGMA)
        certified += claim.radius > 0
        assert claim.radius <= distance + 1e-6
    assert certified > 300
