from collections.abc import Callable
from typing import Any

import pytest
from scipy.stats import beta, norm

from results.verification.bounds import _decided, check_bounds
from tests.support.invented import certificate_rows

Row = dict[str, Any]
CONFIG = {"n": 10_000, "noise": "gaussian"}
QUANTISED = {"n": 10_000, "noise": "quantised"}
METADATA = {"pixel_steps": "255", "pixels": "3072"}


@pytest.fixture
def rows() -> list[Row]:
    return certificate_rows("best")


def change(rows: list[Row], which: Callable[[Row], bool], **values: object) -> Row:
    """Change the first certificate for which `which` holds; returns it as it was."""
    row = next(row for row in rows if which(row))
    before = dict(row)
    row.update(values)
    return before


def certified(row: Row) -> bool:
    return bool(row["predicted"] != -1 and row["p_lower"] > 0.6)


def wrong(rows: list[Row]) -> list[str]:
    found = check_bounds(rows, CONFIG, {})
    return [f"image {row['image_index']}: {problem}" for row, problem in found]


def test_certificates_follow_from_their_counts(rows: list[Row]) -> None:
    assert wrong(rows) == []


@pytest.mark.parametrize(
    ("column", "factor", "message"),
    [
        ("votes_top", 0.999, "the bound is"),
        ("n", 0.999, "the bound is"),
        ("p_lower", 1 + 1e-7, "the bound is"),
        ("radius", 1 + 1e-6, "the radius is"),
        ("alpha", 2, "the bound is"),
        ("sigma", 2, "the radius is"),
    ],
)
def test_any_changed_number_is_found(
    rows: list[Row], column: str, factor: float, message: str
) -> None:
    old = next(row for row in rows if certified(row))[column]
    value = old * factor
    row = change(rows, certified, **{column: int(value) if column in ("n", "votes_top") else value})
    assert any(line.startswith(f"image {row['image_index']}: {message}") for line in wrong(rows))


def test_an_abstention_with_enough_votes_is_found(rows: list[Row]) -> None:
    change(rows, certified, predicted=-1)
    (line,) = wrong(rows)
    assert "it abstains, contrary to its votes" in line


def test_impossible_counts_are_found(rows: list[Row]) -> None:
    change(rows, certified, n=20_000, votes_top=19_000)
    assert any("19000 of 20000 votes" in line for line in wrong(rows))


def bounded_beside_the_others(row: Row, alpha: float = 0.0005) -> Row:
    """The values of a certificate that rests on bounds on two classes, each at level `alpha`."""
    counts = {"votes_top": 4700, "votes_runner_up": 2800, "votes_selected": 60}
    lower, upper = beta.ppf(alpha, 4700, 5301), beta.ppf(1 - alpha, 2801, 7200)
    radius = row["sigma"] / 2 * float(norm.ppf(lower) - norm.ppf(upper))
    return counts | {"p_lower": float(lower), "p_upper": float(upper), "radius": radius}


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("p_upper", 0.28, "the bound of the runner-up is 0.28"),
        ("votes_runner_up", 2900, "the bound of the runner-up is"),
        ("votes_runner_up", 5301, "4700 of 10000 votes"),
        ("votes_selected", 100, "the bound is"),
        ("votes_selected", 101, "4700 of 10000 votes"),
        ("radius", 0.15, "the radius is 0.15"),
        ("joint_radius", 0.1, "the joint radius is 0.1"),
        ("joint_radius", None, "the joint radius is None"),
    ],
)
def test_a_certificate_that_rests_on_two_bounds_is_recomputed(
    rows: list[Row], column: str, value: float | None, problem: str
) -> None:
    row = next(row for row in rows if certified(row))
    row.update(bounded_beside_the_others(row))
    row["joint_radius"] = bounded_beside_the_others(row, 0.0005 / len(rows))["radius"]
    assert wrong(rows) == []
    row[column] = value
    assert any(line.startswith(f"image {row['image_index']}: {problem}") for line in wrong(rows))


@pytest.mark.parametrize(
    ("votes", "n", "holds"), [(990, 1000, True), (700, 1000, False), (8500, 10_000, True)]
)
def test_an_adaptive_certificate_is_checked_by_its_evidence(
    rows: list[Row], votes: int, n: int, holds: bool
) -> None:
    p0 = float(norm.cdf(0.3 / 0.375))
    adaptive = {"procedure": "adaptive", "p_lower": p0, "p_upper": 1 - p0, "radius": 0.3}
    change(rows, certified, votes_top=votes, votes_runner_up=0, n=n, **adaptive)
    assert any("the radius is" in line for line in wrong(rows)) != holds


def test_a_joint_radius_is_proved_at_a_share_of_alpha(rows: list[Row]) -> None:
    row = next(row for row in rows if certified(row) and row["votes_top"] < 9_000)
    p0 = float(norm.cdf(0.05 / 0.375))
    row |= {"procedure": "adaptive", "p_lower": p0, "p_upper": 1 - p0, "radius": 0.05}
    for joint, holds in ((None, True), (0.05, True), (row["joint_radius"] + 0.1, False)):
        row["joint_radius"] = joint
        assert bool(wrong(rows)) != holds


def lowered(rows: list[Row], taken: float) -> list[Row]:
    """The certificates as under quantised noise, with bounds lower by `taken`."""
    bounds = [max(0.0, row["p_lower"] - taken) for row in rows]
    return [
        row | {"p_lower": bound, "p_upper": 1 - bound}
        for row, bound in zip(rows, bounds, strict=True)
    ]


def test_under_quantised_noise_the_bound_has_to_be_lower_by_its_allowance(rows: list[Row]) -> None:
    assert not list(check_bounds(lowered(rows, 1.2e-12), QUANTISED, METADATA))


def test_a_bound_that_is_not_lowered_for_quantised_noise_is_found(rows: list[Row]) -> None:
    found = list(check_bounds(rows, QUANTISED, METADATA))
    # All but those without a vote for their class, if there are any.
    assert len(found) > 195
    assert all("the bound" in problem for _, problem in found)


@pytest.mark.parametrize(("votes", "n"), [(850, 1000), (8030, 10_000)])
def test_adaptive_evidence_has_to_exceed_the_bound_by_the_allowance(votes: int, n: int) -> None:
    p0 = float(norm.cdf(0.3 / 0.375))
    row = {"n": n, "votes_top": votes, "p_lower": p0, "alpha": 0.001}
    # Far more than any noise takes, which would be too little to be seen here.
    assert _decided(row, 10_000, 0.0)
    assert not _decided(row, 10_000, 0.05)
