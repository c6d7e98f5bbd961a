"""What a few votes predict about the certificate of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from trainables.smoothing.bounds import certified_radius
from trainables.smoothing.prediction import Certification

RADII = (0.0, 0.1, 0.3)


@given(
    n=st.sampled_from([1, 10, 100, 2000]),
    sigma=st.floats(0.05, 2),
    alpha=st.floats(1e-5, 0.2),
    radius=st.floats(0, 3),
)
def test_the_votes_needed_are_the_fewest_that_certify(
    n: int, sigma: float, alpha: float, radius: float
) -> None:
    needed = Certification(n, sigma, alpha).votes_needed(radius)
    if needed <= n:
        found = certified_radius(needed, n, 1.0, alpha)
        assert found > 0
        assert found >= radius / sigma
    fewer = certified_radius(needed - 1, n, 1.0, alpha)
    assert fewer == 0 or fewer < radius / sigma


@pytest.mark.parametrize("cast", [100, 400])
@pytest.mark.parametrize("n", [100, 1000])
def test_the_probability_is_the_tail_of_the_predictive_distribution(cast: int, n: int) -> None:
    certification = Certification(n, 0.25, 0.001)
    votes = np.arange(cast + 1)
    found = certification.probability(votes, cast, RADII)
    for column, radius in enumerate(RADII):
        needed = certification.votes_needed(radius)
        expected = betabinom.sf(needed - 1, n, votes + 0.5, cast - votes + 0.5)
        assert found[:, column] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("cast", [100, 400])
def test_the_expected_radius_is_the_mean_over_the_predictive_distribution(cast: int) -> None:
    n, sigma, alpha = 1000, 0.25, 0.001
    votes = np.arange(0, cast + 1, 10)
    radii = np.array([certified_radius(k, n, sigma, alpha) for k in range(n + 1)])
    for count, found in zip(votes, Certification(n, sigma, alpha).radius(votes, cast), strict=True):
        chances = betabinom.pmf(np.arange(n + 1), n, count + 0.5, cast - count + 0.5)
        assert found == pytest.approx(float(chances @ radii), abs=0.003)


def test_no_radius_that_the_votes_can_prove_is_impossible_when_every_vote_is_right() -> None:
    certification = Certification(10_000, 0.25, 0.001)
    for cast in (50, 100, 400, 2000):
        radii = np.linspace(0, certification.largest_radius, 20).tolist()
        found = certification.probability(np.array([cast]), cast, radii)
        assert (found > 0.01).all()
        assert (np.diff(found) <= 0).all()


def test_a_radius_that_the_votes_cannot_prove_is_impossible() -> None:
    certification = Certification(1000, 0.25, 0.001)
    beyond = certification.largest_radius + 1e-6
    assert certification.probability(np.array([100]), 100, [beyond]).tolist() == [[0.0]]


def test_the_result_has_the_shape_of_the_votes() -> None:
    certification = Certification(1000, 0.25, 0.001)
    votes = np.array([[90, 10, 0], [0, 50, 50]])
    found = certification.probability(votes, 100, RADII)
    assert found.shape == (2, 3, len(RADII))
    assert certification.radius(votes, 100).shape == (2, 3)
    single = certification.probability(np.array([50]), 100, RADII)
    assert found[1, 1].tolist() == found[1, 2].tolist() == single[0].tolist()
