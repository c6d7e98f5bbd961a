"""Bounds on the picked class and on all others are sound together, and prove more than one does."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, multinomial, norm

from trainables.smoothing import procedures
from trainables.smoothing.bounds import certified_radius, lower_bound, upper_bound
from trainables.smoothing.certify import ABSTAIN, Certificate, certifying
from trainables.smoothing.procedures import Claim, Fixed, Pilot, Procedure, Tally, Tolerance

SIGMA, ALPHA, CERTIFICATES = 0.5, 0.05, 20_000
# More of them than this happens to a sound procedure once in a million times.
MOST = int(binom.isf(1e-6, CERTIFICATES, ALPHA))
PROBABILITIES = [
    [0.4, 0.35, 0.25],
    [0.6, 0.3, 0.1],
    [0.95, 0.03, 0.02],
    [0.3, *[0.7 / 9] * 9],
    [0.5, *[0.5 / 9] * 9],
    [0.5, 0.3, *[0.2 / 8] * 8],
    [0.9, *[0.1 / 9] * 9],
]


@pytest.fixture(autouse=True)
def remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many certificates of the same probabilities meet the same counts again and again."""
    for function in (lower_bound, upper_bound):
        monkeypatch.setattr(procedures, function.__name__, cache(function))


def truth(probabilities: Sequence[float], picked: int) -> float:
    """The radius that the true probabilities prove for a class; negative if it is not the first."""
    others = [p for label, p in enumerate(probabilities) if label != picked]
    return float(SIGMA / 2 * (norm.ppf(probabilities[picked]) - norm.ppf(max(others))))


def claims(
    procedure: Procedure, probabilities: Sequence[float], generator: np.random.Generator
) -> Iterator[tuple[Pilot, Claim]]:
    """Pilots of independent certificates of one image, and what they claim."""
    for pilot_votes in generator.multinomial(procedure.n0, probabilities, CERTIFICATES):
        pilot = Pilot.of(procedure.n0, pilot_votes.tolist())
        n, votes, tallies = 0, np.zeros(len(probabilities), dtype=int), list[Tally]()
        while (stop := procedure.next_stop(pilot, tallies, SIGMA)) is not None:
            votes += generator.multinomial(stop - n, probabilities)
            n = stop
            tallies.append(Tally.of(n, votes.tolist(), pilot.picked))
        yield pilot, procedure.claim(pilot, tallies, SIGMA)


def over_claims(procedure: Procedure, probabilities: Sequence[float]) -> int:
    """How many of `CERTIFICATES` claim more than the truth."""
    found = claims(procedure, probabilities, np.random.default_rng(7))
    radii = [truth(probabilities, label) for label in range(len(probabilities))]
    return sum(c.proved and c.radius > radii[pilot.picked] for pilot, c in found)


@pytest.mark.parametrize(
    ("procedure", "probabilities"),
    [
        *((Fixed(20, 1000, ALPHA), probabilities) for probabilities in PROBABILITIES),
        # It takes ten times as long.
        *((Tolerance(20, 1000, ALPHA, 0.05), PROBABILITIES[number]) for number in (1, 5)),
    ],
)
def test_no_certificate_claims_too_much_more_often_than_alpha(
    procedure: Procedure, probabilities: list[float]
) -> None:
    assert over_claims(procedure, probabilities) <= MOST


class Hopeful(Fixed):
    """Unsound: takes the votes for the runner-up at their word."""

    def _bound_others(self, tally: Tally, alpha: float) -> float:
        return tally.votes_runner_up / tally.n


def test_this_check_finds_a_procedure_that_does_not_bound_the_runner_up() -> None:
    assert over_claims(Hopeful(20, 1000, ALPHA), PROBABILITIES[0]) > MOST


@pytest.mark.parametrize("alpha", [0.2, 0.05])
@pytest.mark.parametrize("probabilities", [[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.9, 0.09, 0.01]])
def test_the_exact_error_for_few_votes_is_at_most_alpha(
    probabilities: list[float], alpha: float
) -> None:
    n, errors = 14, []
    for picked, selected in product(range(3), (9, 10)):
        pilot = Pilot(10, picked, selected, 10 - selected, 3)
        error = 0.0
        for first, second in product(range(n + 1), repeat=2):
            if first + second > n:
                continue
            counts = [first, second, n - first - second]
            tally = Tally.of(n, counts, picked)
            claim = Fixed(10, n, alpha).claim(pilot, [tally], SIGMA)
            if claim.proved and claim.radius > truth(probabilities, picked):
                error += multinomial.pmf(counts, n, probabilities)
        errors.append(error)
    assert 0 < max(errors) <= alpha


def certificate(
    pilot: list[int], fresh: list[int], alpha: float = 0.001, images: int = 1
) -> Certificate:
    asking = certifying(Fixed(sum(pilot), sum(fresh), alpha), SIGMA, images)
    next(asking)
    asking.send(pilot)
    with pytest.raises(StopIteration) as done:
        asking.send(fresh)
    found: Certificate = done.value.value
    return found


def test_what_one_class_leaves_unproved_two_can_prove() -> None:
    found = certificate([50, 30, 20], [4700, 2800, 2500])
    assert (found.predicted, found.runner_up, found.votes_runner_up) == (0, 1, 2800)
    assert (found.votes_selected, found.votes_selected_runner_up) == (50, 30)
    assert found.p_lower < 0.5
    expected = (norm.ppf(found.p_lower) - norm.ppf(found.p_upper)) * SIGMA / 2
    assert found.radius == pytest.approx(expected)
    assert found.p_lower == pytest.approx(lower_bound(4700, 10_000, 0.0005))
    assert found.p_upper == pytest.approx(upper_bound(2800, 10_000, 0.0005))


def test_when_all_pilot_votes_agree_the_class_is_bounded_alone_at_all_of_alpha() -> None:
    found = certificate([100, 0, 0], [9990, 5, 5])
    assert found.radius == pytest.approx(certified_radius(9990, 10_000, SIGMA, 0.001))
    assert found.p_upper == 1 - found.p_lower


@pytest.mark.parametrize("pilot", [[100, 0, 0], [60, 30, 10]])
def test_the_joint_radius_is_that_of_a_share_of_alpha(pilot: list[int]) -> None:
    fresh = [7000, 2000, 1000]
    found, single = certificate(pilot, fresh, images=200), certificate(pilot, fresh)
    assert found.radius == single.radius == single.joint_radius
    assert found.joint_radius == certificate(pilot, fresh, alpha=0.001 / 200).radius
    assert found.joint_radius < found.radius


def test_what_holds_alone_may_not_hold_jointly() -> None:
    assert certificate([60, 30, 10], [4400, 4300, 1300]).joint_radius is None
    tight = certificate([60, 30, 10], [4560, 4232, 1208], images=10**6)
    assert (tight.predicted, tight.joint_radius) == (0, None)


def test_of_two_classes_one_is_bounded() -> None:
    found = certificate([60, 40], [7000, 3000])
    assert found.radius == pytest.approx(certified_radius(7000, 10_000, SIGMA, 0.001))


def test_a_class_that_the_fresh_votes_put_second_is_not_certified() -> None:
    found = certificate([40, 35, 25], [3000, 4500, 2500])
    assert (found.predicted, found.radius, found.runner_up) == (ABSTAIN, 0.0, 1)


@given(st.lists(st.integers(0, 500), min_size=3, max_size=10).filter(any), st.floats(1e-6, 0.3))
def test_the_bound_on_the_others_is_never_worse_than_what_the_class_leaves_them(
    fresh: list[int], alpha: float
) -> None:
    found = certificate([9, 1, *[0] * (len(fresh) - 2)], fresh, alpha)
    assert found.p_upper <= 1 - found.p_lower
    alone = certified_radius(fresh[0], sum(fresh), SIGMA, alpha / 2)
    assert found.radius >= alone * (1 - 1e-12)


def smallest_change(intervals: np.ndarray, at: float) -> float:
    """How far a point can move before the class that its noise hits most changes.

    The classes are the `intervals` between these bounds; the noise has deviation `SIGMA`.
    """
    moves = np.linspace(-3, 3, 6001)
    cumulative = norm.cdf((np.array([-np.inf, *intervals, np.inf]) - (at + moves)[:, None]) / SIGMA)
    tops = np.diff(cumulative, axis=1).argmax(axis=1)
    return float(np.abs(moves[tops != tops[3000]]).min())


def test_the_radius_never_exceeds_the_distance_at_which_the_smoothed_class_changes() -> None:
    generator, ratios = np.random.default_rng(4), []
    for _ in range(300):
        intervals = np.sort(generator.normal(0, 0.6, 4))
        at = float(generator.normal(0, 0.6))
        edges = (np.array([-np.inf, *intervals, np.inf]) - at) / SIGMA
        probabilities = np.diff(norm.cdf(edges))
        pilot, fresh = (generator.multinomial(n, probabilities).tolist() for n in (50, 5000))
        found = certificate(pilot, fresh, alpha=1e-6)
        if found.radius:
            distance = smallest_change(intervals, at)
            # The distance is found on a grid.
            assert found.radius <= distance + 1e-3
            ratios.append(found.radius / distance)
    assert len(ratios) > 200
    assert max(ratios) > 0.8
