"""A report of a run that goes on, was interrupted, or is damaged: what is missing, and why."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from results import files
from results.report import main
from results.run import load_run
from results.schema import CERTIFICATES, summary_schema
from results.store import read_table, write_json, write_table
from tests.results.conftest import built
from tests.support.invented import write_manifest, write_run
from tests.support.pages import Page

SETTING = "digits-10shot"
MISSING_LATER = (
    files.SUMMARY,
    f"{SETTING}/{files.CLASSES}",
    f"{SETTING}/{files.CERTIFICATES}",
    f"{SETTING}/{files.BASELINES}",
    f"{SETTING}/{files.CONFIRMATION}",
    f"{SETTING}/{files.TRIALS}",
)


def shown(run: Path) -> str:
    return " ".join(Page(built(run)).text.split())


def going_on(run: Path, lacking: int) -> Path:
    """A run that has not ended, without the last `lacking` of its files."""
    write_run(run)
    for name in MISSING_LATER[:lacking]:
        (run / name).unlink()
    write_manifest(run, [SETTING], ended=False)
    return run


@pytest.mark.parametrize(
    ("lacking", "says"),
    [
        (0, "may be of an earlier start of the run, which goes on"),
        (1, "Certificates are there, but not yet their summary."),
        (4, "The search and the confirmation have ended; certification has not."),
        (5, "The search goes on, or was interrupted: 14 trials have ended. The run was asked for"),
        (6, "No trial has ended yet."),
    ],
)
def test_a_run_that_has_not_ended_says_how_far_it_is(
    tmp_path: Path, lacking: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = going_on(tmp_path / "run", lacking)
    assert main([str(run)]) == 0
    text = shown(run)
    assert says in text
    assert "This run has not ended." in text
    assert "Left out" not in text
    assert ("is better than" in text) == (lacking == 0)
    assert capsys.readouterr().err == ""


def test_a_run_that_has_just_begun_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("dataset: [digits]\n")
    assert "This run has not ended." in shown(tmp_path)


def test_a_run_that_has_ended_says_nothing_of_that(html: str) -> None:
    assert "has not ended" not in html
    assert "Left out" not in html


def test_the_last_change_is_that_of_a_file_of_the_run_not_of_the_report(tmp_path: Path) -> None:
    run = going_on(tmp_path / "run", 1)
    for path in run.rglob("*"):
        os.utime(path, (0, 0))
    os.utime(run / SETTING / files.TRIALS, (0, 86_400))
    # Files that are being written may be gone in a moment.
    (run / SETTING / ".classes.parquet.1f2e.tmp").write_text("")
    assert "last changed at 1970-01-02 00:00:00 UTC" in shown(run)
    # By then the report is there.
    assert "last changed at 1970-01-02 00:00:00 UTC" in shown(run)


def test_a_report_writes_nothing_but_itself_and_opens_no_database(tmp_path: Path) -> None:
    run = going_on(tmp_path / "run", 4)
    for name in (files.LEDGER, f"{SETTING}/{files.VOTES}", ".lock"):
        (run / name).write_bytes(b"held by the run")
        (run / name).chmod(0)
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert main([str(run)]) == 0
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert after.pop(run / files.REPORT)
    assert after == before


@pytest.mark.parametrize("name", [*MISSING_LATER, "manifest.json", "config.yaml"])
def test_a_damaged_file_is_named_and_the_rest_is_shown(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    (run / name).write_bytes(b"{ not a table")
    assert main([str(run)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"warning: left out of the report: {run / name}: ")
    text = shown(run)
    assert f"{run / name}: " in text
    # What does not depend on the file is there.
    assert ("digits-10shot" in text, "DE-CROP, tuned" in text) == (True, name != files.SUMMARY)
    assert ("0.001056" in text) == (name != f"{SETTING}/{files.TRIALS}")


def edited(run: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path = run / SETTING / files.CERTIFICATES
    rows = [change(row) for row in read_table(path, CERTIFICATES)]
    write_table(path, rows, CERTIFICATES)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda row: row | {"radius": row["radius"] / 2}, "score is"),
        (lambda row: row | {"sigma": 0.75}, "sigma is"),
        (lambda row: row | {"sigma": row["sigma"] + row["image_index"]}, "must share sigma"),
    ],
)
def test_a_summary_that_is_not_of_its_certificates_is_not_shown(
    tmp_path: Path, change: Callable[[dict[str, Any]], dict[str, Any]], says: str
) -> None:
    run = write_run(tmp_path)
    edited(run, change)
    text = shown(run)
    assert "summary.parquet: none in digits-10shot is not what certificates.parquet says" in text
    assert says in text
    # Neither is right for sure.
    assert "DE-CROP, tuned" not in text
    assert "14 trials" in text


def test_a_summary_that_lacks_images_is_not_shown(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / SETTING / files.CERTIFICATES
    write_table(path, read_table(path, CERTIFICATES)[:-1], CERTIFICATES)
    says = "best in digits-10shot is not what certificates.parquet says: images is 200, not 199"
    assert says in shown(run)


def test_variants_on_different_images_are_shown_but_not_compared(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    edited(
        run,
        lambda row: row | {"image_index": row["image_index"] + (row["variant"] == "best")},
    )
    text = shown(run)
    assert "was certified on different images" in text
    assert "Nothing is compared" in text
    assert "is better than" not in text


def test_a_table_of_a_different_run_is_left_out(tmp_path: Path) -> None:
    run, other = write_run(tmp_path / "run"), write_run(tmp_path / "other")
    path = other / files.SUMMARY
    rows = read_table(path, summary_schema())
    write_table(path, rows, summary_schema(rows[0]["radii"]), {"run_id": "other"})
    shutil.copy(path, run / files.SUMMARY)
    text = shown(run)
    assert "is of the run other, but manifest.json of None" in text
    assert "DE-CROP, tuned" not in text
    assert not load_run(run, []).settings[0].summary


@pytest.mark.parametrize(
    "manifest",
    [
        {"settings": []},
        {"settings": {SETTING: 3}},
        {"settings": {SETTING: {"seconds": [1], "image_shape": 3, "class_names": {}}}},
        {"settings": {SETTING: {"seconds": {"search": "long"}, "data_notes": 1}}, "workers": "x"},
        {"settings": {SETTING: {"network": 3, "clean_accuracy": 0.5, "queries": []}}},
        {"command": ["a"], "workers": None},
    ],
    ids=str,
)
def test_a_manifest_of_something_else_breaks_nothing(tmp_path: Path, manifest: Any) -> None:
    run = write_run(tmp_path)
    files_of_run = {files.MANIFEST: "", "run_id": None}
    write_json(run / files.MANIFEST, manifest | files_of_run)
    assert "DE-CROP, tuned" in shown(run)


@pytest.mark.parametrize("folder", ["absent", "empty"])
def test_what_is_no_run_is_refused_in_one_line(
    tmp_path: Path, folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / folder)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {tmp_path / folder}: ")
    assert error.count("\n") == 1
    assert not list((tmp_path / "empty").iterdir())
