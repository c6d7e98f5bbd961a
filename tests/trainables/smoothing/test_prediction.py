"""What a few votes predict about the certificate of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import betabinom

from trainables.smoothing.bounds import certified_radius
from trainables.smoothing.prediction import Certification
from trainables.smoothing.procedures import Fixed, Pilot, Tally

RADII = (0.0, 0.1, 0.3)


def of_two(votes: np.ndarray, cast: int) -> np.ndarray:
    """The votes for both of two classes, given those for the first."""
    return np.stack((votes, cast - votes), axis=-1)


@given(
    n=st.sampled_from([1, 10, 100, 2000]),
    sigma=st.floats(0.05, 2),
    alpha=st.floats(1e-5, 0.2),
    radius=st.floats(0, 3),
)
def test_the_votes_needed_are_the_fewest_that_certify(
    n: int, sigma: float, alpha: float, radius: float
) -> None:
    needed = Certification(100, n, sigma, alpha).votes_needed(radius)
    if needed <= n:
        found = certified_radius(needed, n, 1.0, alpha)
        assert found > 0
        assert found >= radius / sigma
    fewer = certified_radius(needed - 1, n, 1.0, alpha)
    assert fewer == 0 or fewer < radius / sigma


@pytest.mark.parametrize("cast", [100, 400])
@pytest.mark.parametrize("n", [100, 1000])
def test_the_probability_is_the_tail_of_the_predictive_distribution(cast: int, n: int) -> None:
    certification = Certification(100, n, 0.25, 0.001)
    votes = np.arange(cast + 1)
    found = certification.probability(of_two(votes, cast), cast, RADII)
    for column, radius in enumerate(RADII):
        needed = certification.votes_needed(radius)
        expected = betabinom.sf(needed - 1, n, votes + 0.5, cast - votes + 0.5)
        assert found[:, 0, column] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("cast", [100, 400])
def test_the_expected_radius_is_the_mean_over_the_predictive_distribution(cast: int) -> None:
    n, sigma, alpha = 1000, 0.25, 0.001
    votes = np.arange(0, cast + 1, 10)
    radii = np.array([certified_radius(k, n, sigma, alpha) for k in range(n + 1)])
    certification = Certification(100, n, sigma, alpha)
    expected_radii = certification.radius(of_two(votes, cast), cast)[:, 0]
    for count, found in zip(votes, expected_radii, strict=True):
        chances = betabinom.pmf(np.arange(n + 1), n, count + 0.5, cast - count + 0.5)
        assert found == pytest.approx(float(chances @ radii), abs=0.003)


def test_no_radius_that_the_votes_can_prove_is_impossible_when_every_vote_is_right() -> None:
    certification = Certification(100, 10_000, 0.25, 0.001)
    largest = certified_radius(10_000, 10_000, 0.25, 0.001)
    for cast in (50, 100, 400, 2000):
        radii = np.linspace(0, largest, 20).tolist()
        found = certification.probability(np.array([cast, 0, 0]), cast, radii)[0]
        assert (found > 0.01).all()
        assert (np.diff(found) <= 0).all()


def test_a_radius_that_the_votes_cannot_prove_is_impossible() -> None:
    beyond = certified_radius(1000, 1000, 0.25, 0.001) + 1e-6
    for classes in (2, 3):
        votes = np.array([100, 0, 0][:classes])
        found = Certification(100, 1000, 0.25, 0.001).probability(votes, 100, [beyond])
        assert found == pytest.approx(0, abs=0.01)


def test_the_result_has_the_shape_of_the_votes() -> None:
    certification = Certification(100, 1000, 0.25, 0.001)
    votes = np.array([[90, 10, 0], [0, 50, 50]])
    found = certification.probability(votes, 100, RADII)
    assert found.shape == (2, 3, len(RADII))
    assert certification.radius(votes, 100).shape == (2, 3)
    single = certification.probability(votes[1], 100, RADII)
    assert found[1].tolist() == single.tolist()
    assert single[1].tolist() == single[2].tolist()


def drawn(certification: Certification, votes: list[int], generator: np.random.Generator) -> float:
    """The radius of class 0 of probabilities from the posterior, given votes for it and two more.

    What neither it nor the runner-up gets is shared by many classes.
    """
    n0, n, sigma, alpha = certification
    first, second, rest = (count + 0.5 for count in votes)
    p = generator.beta(first, sum(votes) - votes[0] + 0.5)
    runner_up = (1 - p) * generator.beta(second, rest)
    probabilities = [p, runner_up, *[(1 - p - runner_up) / 50] * 50]
    pilot = Pilot.of(n0, generator.multinomial(n0, probabilities).tolist())
    fresh = generator.multinomial(n, probabilities).tolist()
    claim = Fixed(n0, n, alpha).claim(pilot, [Tally.of(n, fresh, pilot.picked)], sigma)
    return claim.radius if pilot.picked == 0 else 0.0


@pytest.mark.parametrize("votes", [[99, 1, 0], [97, 2, 1], [80, 10, 10], [50, 30, 20], [70, 25, 5]])
def test_the_prediction_is_what_certificates_of_drawn_probabilities_come_to(
    votes: list[int],
) -> None:
    certification, generator = Certification(100, 1000, 0.5, 0.001), np.random.default_rng(1)
    found = np.array([drawn(certification, votes, generator) for _ in range(2000)])
    radii = (0.0, 0.2, 0.5, 0.9)
    predicted = certification.probability(np.array(votes), 100, radii)[0]
    for at, probability in zip(radii, predicted, strict=True):
        assert probability == pytest.approx(((found > 0) & (found >= at)).mean(), abs=0.03)
    expected = certification.radius(np.array(votes), 100)[0]
    assert expected == pytest.approx(found.mean(), abs=0.02)
