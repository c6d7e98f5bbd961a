import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom, binomtest, norm
from statsmodels.stats.proportion import proportion_confint

from trainables.smoothing.bounds import certified_radius, lower_bound, radius_of, upper_bound

ALPHAS = st.floats(1e-12, 0.5)


@st.composite
def votes_of_n(draw: st.DrawFn, most: int = 100_000) -> tuple[int, int]:
    n = draw(st.integers(1, most))
    return draw(st.integers(0, n) | st.sampled_from([0, 1, n - 1, n]).filter(lambda a: a <= n)), n


def largest_radius(n: int, sigma: float, alpha: float) -> float:
    """What unanimous votes prove: then the bound is alpha^(1/n)."""
    return float(sigma * norm.ppf(alpha ** (1 / n)))


def exact_tail(votes: int, n: int, p: float) -> Fraction:
    """P(Binomial(n, p) >= votes), without any rounding."""
    share = Fraction(p)
    return sum(
        (math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(votes, n + 1)),
        Fraction(0),
    )


@settings(deadline=None)
@given(votes_of_n(), st.floats(1e-4, 0.5))
def test_lower_bound_agrees_with_scipy_binomtest(votes: tuple[int, int], alpha: float) -> None:
    interval = binomtest(*votes, alternative="greater").proportion_ci(1 - alpha, method="exact")
    assert lower_bound(*votes, alpha) == pytest.approx(interval.low, rel=1e-6, abs=1e-12)


@settings(deadline=None)
@given(votes_of_n(), ALPHAS)
def test_lower_bound_agrees_with_the_quantile_of_the_beta_distribution(
    votes: tuple[int, int], alpha: float
) -> None:
    top, n = votes
    expected = beta.ppf(alpha, top, n - top + 1) if top else 0.0
    assert lower_bound(top, n, alpha) == pytest.approx(expected, rel=1e-9)


@settings(deadline=None)
@given(votes_of_n(), st.floats(1e-9, 0.49))
def test_lower_bound_agrees_with_statsmodels(votes: tuple[int, int], alpha: float) -> None:
    low, _ = proportion_confint(*votes, alpha=2 * alpha, method="beta")
    assert lower_bound(*votes, alpha) == pytest.approx(low, rel=1e-9)


@settings(deadline=None)
@given(votes_of_n(), ALPHAS)
def test_the_tail_beyond_the_lower_bound_never_exceeds_alpha(
    votes: tuple[int, int], alpha: float
) -> None:
    top, n = votes
    bound = lower_bound(top, n, alpha)
    assert 0 <= bound < 1
    assert bound == 0 or binom.sf(top - 1, n, bound) <= alpha


@settings(deadline=None, max_examples=60)
@given(votes_of_n(60), st.sampled_from([1e-12, 1e-6, 0.001, 0.05, 0.5]))
def test_the_lower_bound_is_sound_and_tight_in_exact_arithmetic(
    votes: tuple[int, int], alpha: float
) -> None:
    top, n = votes
    bound = lower_bound(top, n, alpha)
    assert exact_tail(top, n, bound) <= Fraction(alpha) * (1 + Fraction(1, 10**10)) or top == 0
    assert exact_tail(top, n, bound * (1 + 1e-9) + 1e-300) > Fraction(alpha)


@pytest.mark.parametrize("alpha", [0.001, 0.05])
@pytest.mark.parametrize("n", [1, 10, 57])
def test_the_lower_bound_is_too_high_with_probability_alpha_at_most(n: int, alpha: float) -> None:
    bounds = [lower_bound(top, n, alpha) for top in range(n + 1)]
    for p in [i / 200 for i in range(1, 200)]:
        wrong = sum(binom.pmf(top, n, p) for top in range(n + 1) if bounds[top] > p)
        assert wrong <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.3])
def test_no_votes_bound_nothing(alpha: float) -> None:
    assert lower_bound(0, 1, alpha) == 0
    assert lower_bound(0, 100_000, alpha) == 0


@settings(deadline=None)
@given(st.integers(1, 1_000_000), ALPHAS)
def test_unanimous_votes_bound_the_probability_by_a_root_of_alpha(n: int, alpha: float) -> None:
    assert lower_bound(n, n, alpha) == pytest.approx(alpha ** (1 / n), rel=1e-9)


@settings(deadline=None)
@given(votes_of_n(5000), ALPHAS)
def test_one_more_vote_never_lowers_the_bound(votes: tuple[int, int], alpha: float) -> None:
    top, n = votes
    if top < n:
        assert lower_bound(top, n, alpha) < lower_bound(top + 1, n, alpha)


@settings(deadline=None)
@given(votes_of_n(), st.floats(1e-3, 10), ALPHAS)
def test_the_radius_is_finite_and_at_most_the_largest(
    votes: tuple[int, int], sigma: float, alpha: float
) -> None:
    radius = certified_radius(*votes, sigma, alpha)
    assert math.isfinite(radius)
    assert 0 <= radius <= max(0.0, largest_radius(votes[1], sigma, alpha)) * (1 + 1e-9)


@pytest.mark.parametrize("alpha", [0.5, 0.999, 1 - 1e-12])
@pytest.mark.parametrize("n", [1, 10**6, 10**12, 10**15])
def test_the_radius_is_finite_even_for_absurd_numbers(n: int, alpha: float) -> None:
    assert math.isfinite(certified_radius(n, n, 1.0, alpha))


@settings(deadline=None)
@given(votes_of_n(), st.floats(0.01, 2), ALPHAS)
def test_the_radius_is_sigma_times_the_normal_quantile_of_the_bound(
    votes: tuple[int, int], sigma: float, alpha: float
) -> None:
    bound = lower_bound(*votes, alpha)
    expected = sigma * norm.ppf(bound) if bound > 0.5 else 0.0
    assert certified_radius(*votes, sigma, alpha) == pytest.approx(expected)


@settings(deadline=None)
@given(votes_of_n(), ALPHAS)
def test_the_upper_bound_agrees_with_scipy(votes: tuple[int, int], alpha: float) -> None:
    top, n = votes
    expected = beta.ppf(1 - alpha, top + 1, n - top) if top < n else 1.0
    assert upper_bound(*votes, alpha) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.05, 0.001])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_the_upper_bound_is_too_low_with_probability_alpha_at_most(n: int, alpha: float) -> None:
    bounds = np.array([upper_bound(votes, n, alpha) for votes in range(n + 1)])
    for p in np.linspace(0.001, 0.999, 200):
        assert binom.pmf(np.flatnonzero(bounds < p), n, p).sum() <= alpha * (1 + 1e-9)


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0.01, 2))
def test_two_bounds_prove_half_the_difference_of_their_quantiles(
    p_lower: float, p_upper: float, sigma: float
) -> None:
    expected = sigma / 2 * (norm.ppf(p_lower) - norm.ppf(p_upper)) if p_lower > p_upper else 0.0
    assert radius_of(p_lower, p_upper, sigma) == pytest.approx(expected)


@pytest.mark.parametrize(("n", "expected"), [(1000, 2.46), (10_000, 3.20), (100_000, 3.81)])
def test_the_largest_radius_is_that_of_the_literature(n: int, expected: float) -> None:
    assert largest_radius(n, 1.0, 0.001) == pytest.approx(expected, abs=0.005)
    assert certified_radius(n, n, 1.0, 0.001) == pytest.approx(largest_radius(n, 1.0, 0.001))


@pytest.mark.parametrize(
    ("top", "n", "alpha", "complaint"),
    [
        (-1, 10, 0.001, "votes_top"), (11, 10, 0.001, "11 of 10"), (0, 0, 0.001, "votes_top"),
        (0, -5, 0.001, "votes_top"), (5, 10, 0.0, "alpha"), (5, 10, 1.0, "alpha"),
        (5, 10, -0.1, "alpha"), (5, 10, math.nan, "alpha"),
    ],
)  # fmt: skip
def test_impossible_counts_and_alphas_are_refused(
    top: int, n: int, alpha: float, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint):
        lower_bound(top, n, alpha)
    with pytest.raises(ValueError, match=complaint):
        certified_radius(top, n, 0.25, alpha)


@pytest.mark.parametrize("sigma", [0.0, -0.25, math.nan])
def test_a_sigma_that_is_not_positive_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        certified_radius(10, 10, sigma, 0.001)
