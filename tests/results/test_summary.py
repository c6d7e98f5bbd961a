from pathlib import Path

import pytest

from results.schema import (
    VARIANTS,
    accuracy_column,
    classes_schema,
    summary_schema,
    wrong_column,
)
from results.score import Answers
from results.store import StoreError, read_table
from results.summary import Candidate, class_rows, summary_row, write_classes, write_summary
from tests.support.invented import RADII, certificate_rows, summary_of

NAMES = [f"digit {label}" for label in range(10)]


def test_a_summary_row_fits_its_schema_and_its_certificates(tmp_path: Path) -> None:
    rows = certificate_rows("published")
    row = summary_of("published", rows)
    write_summary(tmp_path / "summary.parquet", [row])
    assert read_table(tmp_path / "summary.parquet", summary_schema()) == [row]
    assert row["images"] == 200
    assert row["abstained"] == sum(r["predicted"] == -1 for r in rows) / 200
    assert row["certified_accuracy_0"] == sum(r["predicted"] == r["label"] for r in rows) / 200
    assert row["acr_low"] < row["acr"] < row["acr_high"]
    assert row["seconds"] == pytest.approx(80)


def test_right_wrong_and_abstained_add_up() -> None:
    row = summary_of("published", certificate_rows("published"))
    parts = row["certified_accuracy_0"] + row["certified_wrong_0"] + row["abstained"]
    assert parts == pytest.approx(1)
    wrong = [row[wrong_column(at)] for at in RADII]
    assert wrong == sorted(wrong, reverse=True)
    assert wrong[0] > wrong[-1]


def test_the_score_and_its_interval_are_about_the_named_radii() -> None:
    rows, row = certificate_rows("best"), summary_of("best", certificate_rows("best"))
    assert row["score"] == pytest.approx(Answers.of(rows).scores(RADII).mean())
    assert 0 < row["score_low"] < row["score"] < row["score_high"]
    assert row["beats_guessing"]
    small = summary_row("digits-10shot", Candidate("best", "search", 9), rows, (0.0,))
    assert small["radii"] == [0.0]
    assert small["score"] > row["score"]


def test_a_constant_answer_does_not_beat_guessing() -> None:
    rows = [row | {"predicted": 4, "radius": 0.9} for row in certificate_rows("best")]
    row = summary_of("best", rows)
    assert row["score_low"] < 0 < row["score_high"]
    assert not row["beats_guessing"]
    assert (row["most_frequent"], row["most_frequent_share"]) == (4, 1.0)
    assert row["most_frequent_true"] == sum(r["label"] == 4 for r in rows) / len(rows)
    assert row["acr"] > 0.05


def test_further_radii_have_columns_and_are_empty_where_they_were_not_named(
    tmp_path: Path,
) -> None:
    rows = certificate_rows("best")
    candidate = Candidate("best", "search", 9)
    fine = summary_row("mnist-10shot", candidate, rows, (0.0, 1.0, 1.125))
    write_summary(tmp_path / "summary.parquet", [summary_of("best", rows), fine])
    first, second = read_table(tmp_path / "summary.parquet", summary_schema())
    assert first["certified_accuracy_1_125"] is first["certified_wrong_1_125"] is None
    assert second["certified_accuracy_1_125"] == Answers.of(rows).right(1.125).mean()
    assert [first["radii"], second["radii"]] == [list(RADII), [0.0, 1.0, 1.125]]
    assert first["certified_accuracy_1_0"] == second["certified_accuracy_1_0"]


def test_a_row_without_a_promised_column_is_refused(tmp_path: Path) -> None:
    row = summary_of("best", certificate_rows("best"))
    del row["score"]
    with pytest.raises(StoreError, match="score"):
        write_summary(tmp_path / "summary.parquet", [row])


def test_the_classifier_without_a_denoiser_has_no_trial(tmp_path: Path) -> None:
    row = summary_row("digits-10shot", Candidate("none", "none"), certificate_rows("none"), [0.5])
    write_summary(tmp_path / "summary.parquet", [row])
    assert row["trial"] is None


def test_certificates_of_two_sigmas_do_not_make_one_summary() -> None:
    rows = certificate_rows("published", 5) + certificate_rows("best", 5)
    with pytest.raises(ValueError, match="share sigma"):
        summary_of("best", rows)


def test_no_certificates_make_no_summary() -> None:
    with pytest.raises(ValueError, match="images"):
        summary_of("best", [])


def test_classes_add_up_to_the_summary(tmp_path: Path) -> None:
    groups = {variant: certificate_rows(variant) for variant in VARIANTS}
    radii = (0.125, 0.5)
    write_classes(tmp_path / "classes.parquet", class_rows(groups, NAMES, radii), radii)
    rows = read_table(tmp_path / "classes.parquet", classes_schema(radii))
    for variant, group in groups.items():
        summary = summary_row("digits-10shot", Candidate(variant, "search"), group, radii)
        mine = [row for row in rows if row["variant"] == variant]
        assert [row["name"] for row in mine] == NAMES
        assert sum(row["images"] for row in mine) == 200
        answers = sum(row["answers"] for row in mine)
        assert answers == sum(r["predicted"] >= 0 for r in group)
        for column in (accuracy_column(at) for at in (0.0, 0.125, 0.5, 1.0)):
            total = sum(row[column] * row["images"] for row in mine)
            assert total / 200 == pytest.approx(summary[column])
