"""The promise of the tolerance procedure, counted on nested votes; a rule that breaks it fails."""

from collections.abc import Iterator

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import beta, binom, hypergeom, norm

from benchmarks.certification.promise import ALPHA, Classes, simulate
from trainables.smoothing import sufficient
from trainables.smoothing.bounds import Floats
from trainables.smoothing.noise import BLOCK_SIZE
from trainables.smoothing.sufficient import Promise, Votes

TOLERANCE, IMAGES = 0.02, 3000
PROBABILITIES = (0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
# A rule that keeps the promise has more images than this once in a million times.
MOST = float(binom.isf(1e-6, IMAGES, 0.05)) / IMAGES


def losing(promise: Promise, classes: Classes, n0: int = 100) -> float:
    found = simulate(promise, n0, classes, IMAGES, np.random.default_rng(0))
    return found.losing(promise.tolerance)


@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("n", [10_000, 100_000])
def test_at_most_5_percent_lose_more_than_the_tolerance_at_any_probability(
    n: int, sigma: float
) -> None:
    promise = Promise(n, ALPHA, TOLERANCE / sigma, two_class=False)
    found = {p: losing(promise, Classes(p, 1 - p)) for p in PROBABILITIES}
    assert max(found.values()) <= MOST, found


@pytest.mark.parametrize("n0", [20, 1000])
def test_the_promise_holds_for_smaller_and_larger_pilots(n0: int) -> None:
    promise = Promise(10_000, ALPHA, TOLERANCE / 0.25, two_class=False)
    found = {p: losing(promise, Classes(p, 1 - p), n0) for p in PROBABILITIES}
    assert max(found.values()) <= MOST, found


@pytest.mark.parametrize("sigma", [0.12, 0.25, 1.0])
@pytest.mark.parametrize("share", [1.0, 0.9, 0.5, 0.25])
def test_the_promise_holds_with_a_bound_on_the_runner_up(sigma: float, share: float) -> None:
    promise = Promise(10_000, ALPHA / 2, TOLERANCE / sigma, two_class=True)
    found = {
        p: losing(promise, Classes(p, share * (1 - p)))
        for p in (0.45, *PROBABILITIES)
        if p > share * (1 - p)
    }
    assert max(found.values()) <= MOST, found


@pytest.fixture
def forgetful() -> Iterator[None]:
    """The numbers of votes are remembered for every promise; these are not to be mixed up."""
    sufficient._stops.cache_clear()
    yield
    sufficient._stops.cache_clear()


def by_expected_radii(self: Promise, votes: int, top: Floats, runner_up: Floats) -> Floats:
    """Broken: as if a part of the votes always had the same share for a class as all of them."""
    lost = self._radius(self.n, top, runner_up) - self._radius(votes, top, runner_up)
    return (lost > self.tolerance).astype(np.float64)


@pytest.mark.usefixtures("forgetful")
def test_this_check_finds_a_rule_without_the_chance_of_the_votes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Promise, "share_losing", by_expected_radii)
    promise = Promise(10_000, ALPHA, TOLERANCE / 0.25, two_class=False)
    assert min(losing(promise, Classes(p, 1 - p)) for p in (0.6, 0.8, 0.95)) > 2 * MOST


@pytest.mark.usefixtures("forgetful")
def test_this_check_finds_a_rule_that_gives_up_too_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sufficient, "_GIVEN_UP", 0.3)
    promise = Promise(10_000, ALPHA, TOLERANCE / 0.25, two_class=False)
    assert losing(promise, Classes(0.56, 0.44)) > 2 * MOST


def exact_share(promise: Promise, votes: int, whole: int) -> float:
    """The share of samples of `votes` that lose too much of what `whole` votes of n prove."""
    n, alpha = promise.n, promise.level
    needed = norm.ppf(beta.ppf(alpha, whole, n - whole + 1)) - promise.tolerance
    # The fewest votes that prove the radius: all others have a bound below it.
    fewest = binom.isf(alpha, votes, ndtr(needed)) + 1 if needed > 0 else 0
    return float(hypergeom.cdf(fewest - 1, n, whole, votes))


@pytest.mark.parametrize("votes", [1500, 2500, 4000, 6000])
@pytest.mark.parametrize("top", [0.56, 0.65, 0.8, 0.9, 0.95, 0.98])
def test_the_share_that_loses_is_that_of_the_hypergeometric_distribution(
    votes: int, top: float
) -> None:
    promise = Promise(10_000, ALPHA, 0.08, two_class=False)
    found = promise.share_losing(votes, np.array([top]), np.array([1 - top]))
    # The number of votes is whole: half a vote more or less is all the difference.
    one = hypergeom.pmf(round(votes * top), promise.n, round(promise.n * top), votes)
    assert found == pytest.approx(exact_share(promise, votes, round(top * promise.n)), abs=one)


def test_a_class_with_one_rival_is_the_same_with_one_bound_and_with_two() -> None:
    one, two = (Promise(10_000, ALPHA, 0.08, two_class=two) for two in (False, True))
    shares = np.array([0.55, 0.7, 0.9, 0.99])
    for votes in (1000, 3000, 9000):
        pair = [each.share_losing(votes, shares, 1 - shares) for each in (one, two)]
        assert pair[0] == pytest.approx(pair[1], abs=1e-9)


@pytest.mark.parametrize("two_class", [False, True])
@pytest.mark.parametrize("n", [50, 100, 1234, 100_000])
def test_stops_ascend_in_whole_blocks_to_at_most_n(n: int, two_class: bool) -> None:
    promise = Promise(n, ALPHA, 0.08, two_class)
    for top in range(0, 101, 5):
        stops = promise.stops(Votes(100, top, (100 - top) // 2))
        assert list(stops) == sorted({*stops})
        assert stops[-1] == promise.sufficient(Votes(100, top, (100 - top) // 2)) <= n
        assert all(stop % BLOCK_SIZE == 0 or stop == n for stop in stops)


def test_what_cannot_be_certified_takes_one_block() -> None:
    promise = Promise(10_000, ALPHA, 0.08, two_class=False)
    assert promise.stops(Votes(100, 20, 20)) == (BLOCK_SIZE,)
    assert promise.is_hopeless(Votes(1000, 500, 500))
    assert not promise.is_hopeless(Votes(1000, 560, 440))


def test_the_example_of_the_docstring() -> None:
    promise = Promise(n=10_000, level=0.001, tolerance=0.02 / 0.25, two_class=False)
    assert f"# {promise.sufficient(Votes(cast=100, top=80, runner_up=12))}\n" in str(
        Promise.__doc__
    )
