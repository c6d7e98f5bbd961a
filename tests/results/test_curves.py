from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike
from scipy.stats import norm, sem, t

from results.curves import (
    accuracy_curve,
    average_certified_radius,
    certified_accuracy,
    largest_radius,
    outcomes,
    paired_difference,
)
from results.store import read_cohen_tsv
from tests.support.invented import certificate_rows, scores

COHEN = Path(__file__).parents[3] / "shared" / "data" / "cohen"
PUBLISHED = {
    "0.25": {0.25: 0.60, 0.5: 0.43, 0.75: 0.27},
    "0.50": {0.25: 0.55, 0.5: 0.41, 0.75: 0.32, 1.0: 0.23, 1.25: 0.15, 1.5: 0.09},
}

Rows: TypeAlias = list[tuple[bool, float]]
images = st.lists(
    st.tuples(st.booleans(), st.integers(0, 400).map(lambda k: k / 100)), min_size=1, max_size=60
)


def naive_accuracy(rows: Rows, at: float) -> float:
    return sum(correct and radius >= at for correct, radius in rows) / len(rows)


@pytest.mark.parametrize("sigma", PUBLISHED)
def test_curves_reproduce_cohens_published_table(sigma: str) -> None:
    path = COHEN / f"cifar10_resnet110_sigma_{sigma}.tsv"
    if not path.is_file():
        pytest.skip("the published logs are not beside this repository, in ../shared/data/cohen")
    rows = read_cohen_tsv(path)
    assert len(rows) == 500
    correct, radius = [row.correct for row in rows], [row.radius for row in rows]
    for at, published in PUBLISHED[sigma].items():
        assert round(certified_accuracy(correct, radius, at).value, 2) == published


@given(rows=images, at=st.integers(0, 400).map(lambda k: k / 100))
def test_certified_accuracy_agrees_with_a_naive_count_and_lies_in_its_interval(
    rows: Rows, at: float
) -> None:
    correct, radius = zip(*rows, strict=True)
    estimate = certified_accuracy(correct, radius, at)
    assert estimate.value == pytest.approx(naive_accuracy(rows, at))
    assert 0 <= estimate.low <= estimate.value + 1e-12
    assert estimate.value - 1e-12 <= estimate.high <= 1


@given(hits=st.integers(0, 50), misses=st.integers(0, 50).filter(bool))
def test_the_interval_is_wilsons_formula(hits: int, misses: int) -> None:
    n, z = hits + misses, norm.ppf(0.975)
    share = hits / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    estimate = certified_accuracy([True] * hits + [False] * misses, [1.0] * n, 0.5)
    assert (estimate.low, estimate.high) == pytest.approx((centre - half, centre + half))


def test_abstentions_count_against_certified_accuracy_and_acr() -> None:
    correct, radius = [True, True, False, False], [1.0, 1.0, 0.0, 0.0]
    assert certified_accuracy(correct, radius, 0).value == 0.5
    assert average_certified_radius(correct, radius).value == 0.5


def test_a_certified_but_wrong_image_adds_nothing() -> None:
    assert average_certified_radius([True, False], [0.5, 9.0]).value == 0.25


def test_a_radius_of_exactly_r_counts_at_r() -> None:
    assert certified_accuracy([True], [0.25], 0.25).value == 1


@given(rows=images)
def test_a_curve_never_rises_and_agrees_with_a_naive_count(rows: Rows) -> None:
    curve = accuracy_curve(*zip(*rows, strict=True))
    assert curve.radii[0] == 0
    assert (np.diff(curve.radii) > 0).all()
    assert (np.diff(curve.accuracy) <= 0).all()
    assert curve.accuracy[-1] == 0
    assert curve.accuracy == pytest.approx([naive_accuracy(rows, at) for at in curve.radii])


@given(rows=images, at=st.floats(0, 4))
def test_between_its_points_a_curve_has_the_value_of_the_next(rows: Rows, at: float) -> None:
    curve = accuracy_curve(*zip(*rows, strict=True))
    after = np.searchsorted(curve.radii, at)
    value = curve.accuracy[after] if after < len(curve.radii) else 0.0
    assert value == pytest.approx(naive_accuracy(rows, at))


def test_a_curve_can_be_asked_at_given_radii() -> None:
    curve = accuracy_curve([True, True], [0.2, 0.6], [0.0, 0.5, 1.0])
    assert curve.accuracy.tolist() == [1.0, 0.5, 0.0]


@given(rows=images.filter(lambda rows: len(rows) < 20))
def test_acr_agrees_with_a_naive_loop_and_lies_in_its_interval(rows: Rows) -> None:
    total = 0.0
    for correct, radius in rows:
        if correct:
            total += radius
    acr = average_certified_radius([row[0] for row in rows], [row[1] for row in rows])
    assert acr.value == pytest.approx(total / len(rows))
    assert acr.low - 1e-12 <= acr.value <= acr.high + 1e-12


def test_acr_is_the_area_under_the_curve() -> None:
    correct, radius = outcomes(certificate_rows("best"))
    curve = accuracy_curve(correct, radius)
    area = float(np.sum(np.diff(curve.radii) * curve.accuracy[1:]))
    assert area == pytest.approx(average_certified_radius(correct, radius).value)


@pytest.mark.parametrize("count", [1, 2, 40])
@pytest.mark.parametrize("radius", [0.0, 0.5, 0.8])
def test_equal_images_might_have_been_different_as_wilsons_interval_says(
    count: int, radius: float
) -> None:
    acr = average_certified_radius([True] * count, [radius] * count, 0.8)
    others = certified_accuracy([False] * count, [0.0] * count, 0).high
    assert acr.value == radius
    assert (acr.low, acr.high) == pytest.approx(
        (radius - others * radius, radius + others * (0.8 - radius))
    )
    assert acr.low < acr.high


@given(rows=images, most=st.floats(4, 5))
def test_every_interval_has_a_width_and_lies_in_the_range_of_the_values(
    rows: Rows, most: float
) -> None:
    correct, radius = zip(*rows, strict=True)
    acr = average_certified_radius(correct, radius, most)
    assert 0 <= acr.low <= acr.value <= acr.high <= most
    assert acr.low < acr.high
    gain = paired_difference(np.array(correct) * np.array(radius), np.zeros(len(rows)), most)
    assert -most <= gain.low <= gain.value <= gain.high <= most
    assert gain.low < gain.high


def test_without_equal_values_the_interval_is_close_to_students() -> None:
    values = np.random.default_rng(0).uniform(0, 1, 30)
    acr = average_certified_radius(np.ones(30, bool), values, 1.0)
    student = t.interval(0.95, 29, values.mean(), sem(values))
    assert (acr.low, acr.high) == pytest.approx(student, abs=0.02 * (student[1] - student[0]))


def test_no_radius_is_larger_than_that_of_equal_votes() -> None:
    row = {"sigma": 0.25, "alpha": 0.001, "n": 10_000, "radius": 0.3}
    assert largest_radius([row]) == pytest.approx(0.25 * norm.ppf(0.001 ** (1 / 10_000)))
    assert largest_radius([row, row | {"radius": 2.0}]) == 2
    assert largest_radius([row | {"n": 1, "radius": 0.0}]) == 0


def test_a_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    a, b = scores("best"), scores("published")
    gain = paired_difference(a, b)
    assert gain.value == pytest.approx(a.mean() - b.mean())
    unpaired = 2 * norm.ppf(0.975) * np.sqrt((a.var() + b.var()) / len(a))
    assert gain.high - gain.low < unpaired


def test_a_variant_gains_nothing_over_itself() -> None:
    gain = paired_difference(scores("best"), scores("best"))
    assert gain.value == 0
    assert 0 < gain.high == -gain.low < 0.03


@pytest.mark.parametrize("call", [certified_accuracy, average_certified_radius, accuracy_curve])
@pytest.mark.parametrize(
    ("correct", "radius"),
    [([], []), ([True], [1.0, 2.0]), ([True], [-1.0]), ([True], [np.inf]), ([True], [np.nan])],
)
def test_impossible_certificates_are_refused(
    call: Callable[..., object], correct: ArrayLike, radius: ArrayLike
) -> None:
    with pytest.raises(ValueError, match="radius"):
        call(correct, radius, *([0.5] if call is certified_accuracy else []))


def test_variants_on_different_numbers_of_images_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="pair"):
        paired_difference([0.1, 0.2], [0.1])


def test_outcomes_are_ordered_by_image() -> None:
    rows = certificate_rows("best", 30)
    shuffled = outcomes(rows[::-1])
    assert all((a == b).all() for a, b in zip(outcomes(rows), shuffled, strict=True))
