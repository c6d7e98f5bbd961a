from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from scipy.stats import beta, norm

from results.schema import CERTIFICATES, summary_schema
from results.store import StoreError, read_table, write_table
from results.verification import _decided, verify
from tests.support.invented import write_run

TABLE = "digits-10shot/certificates.parquet"
Row = dict[str, object]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "demo")


def change(run: Path, which: Callable[[Row], bool], **values: object) -> Row:
    """Change the first certificate for which `which` holds; returns it as it was."""
    rows = read_table(run / TABLE, CERTIFICATES)
    row = next(row for row in rows if which(row))
    before = dict(row)
    row.update(values)
    write_table(run / TABLE, rows, CERTIFICATES)
    return before


def certified(row: Row) -> bool:
    return row["variant"] == "best" and row["predicted"] != -1 and float(str(row["p_lower"])) > 0.6


def test_certificates_follow_from_their_counts(run: Path) -> None:
    assert verify(run) == (4 * 200, [])


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
def test_any_changed_number_is_found(run: Path, column: str, factor: float, message: str) -> None:
    old = float(str(change(run, certified)[column]))
    value = old * factor
    row = change(run, certified, **{column: int(value) if column in ("n", "votes_top") else value})
    count, wrong = verify(run)
    assert count == 800
    assert any(
        line.startswith(f"digits-10shot: best, image {row['image_index']}: {message}")
        for line in wrong
    )


def test_a_changed_prediction_and_an_abstention_with_enough_votes_are_found(run: Path) -> None:
    change(run, certified, predicted=-1)
    _, wrong = verify(run)
    assert any("it abstains, contrary to its votes" in line for line in wrong)
    assert any("the log in certificates/ has different" in line for line in wrong)


def test_a_log_that_claims_more_than_the_certificate_is_found(run: Path) -> None:
    log = run / "digits-10shot/certificates/best.tsv"
    lines = log.read_text().splitlines()
    cells = lines[3].split("\t")
    cells[3] = "9.000000"
    log.write_text("\n".join([*lines[:3], "\t".join(cells), *lines[4:]]) + "\n")
    _, wrong = verify(run)
    assert len(wrong) == 1
    assert f"image {cells[0]}: the log's radius" in wrong[0]


def test_impossible_counts_are_found(run: Path) -> None:
    change(run, certified, n=20_000, votes_top=19_000)
    assert any("19000 of 20000 votes" in line for line in verify(run)[1])


def bounded_beside_the_others(row: Row, alpha: float = 0.0005) -> Row:
    """The values of a certificate that rests on bounds on two classes, each at level `alpha`."""
    counts = {"votes_top": 4700, "votes_runner_up": 2800, "votes_selected": 60}
    lower, upper = beta.ppf(alpha, 4700, 5301), beta.ppf(1 - alpha, 2801, 7200)
    radius = float(str(row["sigma"])) / 2 * float(norm.ppf(lower) - norm.ppf(upper))
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
    ],
)
def test_a_certificate_that_rests_on_two_bounds_is_recomputed(
    run: Path, column: str, value: float, problem: str
) -> None:
    image = change(run, certified)["image_index"]

    def same(row: Row) -> bool:
        return row["variant"] == "best" and row["image_index"] == image

    row = change(run, same)
    change(run, same, **bounded_beside_the_others(row))
    # Only the log and the summary are about what it was before.
    assert not any(f"image {image}: the bound" in line for line in verify(run)[1])
    change(run, same, **{column: value})
    assert any(f"image {image}: {problem}" in line for line in verify(run)[1])


@pytest.mark.parametrize(
    ("votes", "n", "holds"), [(990, 1000, True), (700, 1000, False), (8500, 10_000, True)]
)
def test_an_adaptive_certificate_is_checked_by_its_evidence(
    run: Path, votes: int, n: int, holds: bool
) -> None:
    p0 = float(norm.cdf(0.3 / 0.375))
    adaptive = {"procedure": "adaptive", "p_lower": p0, "p_upper": 1 - p0, "radius": 0.3}
    row = change(run, certified, votes_top=votes, votes_runner_up=0, n=n, **adaptive)
    _, wrong = verify(run)
    mine = [w for w in wrong if f"image {row['image_index']}: the radius is" in w]
    assert bool(mine) != holds


def quantise(run: Path, taken: float) -> None:
    """Make every certificate one under quantised noise, with bounds lower by `taken`."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(config | {"noise": "quantised"}))
    rows = read_table(run / TABLE, CERTIFICATES)
    for row in rows:
        row["p_lower"] = max(0.0, row["p_lower"] - taken)
        row["p_upper"] = 1 - row["p_lower"]
    named = {"noise": "quantised", "pixel_steps": "255", "pixels": "3072"}
    write_table(run / TABLE, rows, CERTIFICATES, named)


def test_under_quantised_noise_the_bound_has_to_be_lower_by_its_allowance(run: Path) -> None:
    quantise(run, 1.2e-12)
    assert verify(run) == (4 * 200, [])


def test_a_bound_that_is_not_lowered_for_quantised_noise_is_found(run: Path) -> None:
    quantise(run, 0.0)
    _, wrong = verify(run)
    # All but those without a vote for their class, if there are any.
    assert len(wrong) > 790
    assert all("the bound" in line for line in wrong)


def test_certificates_of_another_noise_than_the_run_names_are_found(run: Path) -> None:
    quantise(run, 1.2e-12)
    rows = read_table(run / TABLE, CERTIFICATES)
    write_table(run / TABLE, rows, CERTIFICATES, {"pixel_steps": "0", "pixels": "3072"})
    assert any("certified with gaussian noise" in line for line in verify(run)[1])


@pytest.mark.parametrize(("votes", "n"), [(850, 1000), (8030, 10_000)])
def test_adaptive_evidence_has_to_exceed_the_bound_by_the_allowance(votes: int, n: int) -> None:
    p0 = float(norm.cdf(0.3 / 0.375))
    row = {"n": n, "votes_top": votes, "p_lower": p0, "alpha": 0.001}
    # Far more than any noise takes, which would be too little to be seen here.
    assert _decided(row, 10_000, 0.0)
    assert not _decided(row, 10_000, 0.05)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("score", 0.999),
        ("beats_guessing", False),
        ("certified_accuracy_0_5", 0.9),
        ("certified_wrong_0", 0.0),
        ("most_frequent", 7),
        ("most_frequent_share", 0.01),
        ("acr", 0.9),
        ("radii", [0.0]),
        ("sigma", 0.5),
        ("radii", []),
    ],
)
def test_a_summary_that_does_not_follow_from_the_certificates_is_found(
    run: Path, column: str, value: object
) -> None:
    rows = read_table(run / "summary.parquet", summary_schema())
    rows[3][column] = value
    write_table(run / "summary.parquet", rows, summary_schema())
    _, wrong = verify(run)
    assert wrong
    assert all(line.startswith("digits-10shot: best: the summary") for line in wrong)


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"summary\.parquet"):
        verify(tmp_path)
