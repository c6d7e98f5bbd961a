"""The verdict on a run folder: what passes, and what is named when something is missing."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from results.report import main as report
from results.run import load_run
from results.store import StoreError
from results.verification import verify
from tests.support.finished import write_finished
from tests.support.sealing import sealed
from tuning.certification.replay import replay
from tuning.certify import main as certify

SETTING = "digits-3shot"


@pytest.mark.parametrize(
    "changes",
    [
        {"procedure": "fixed"},
        {"procedure": "tolerance"},
        {"procedure": "adaptive"},
        {"noise": "quantised"},
        {"procedure": "adaptive", "noise": "quantised", "radii": [0.25, 0.6]},
        {"shots": "3,4"},
    ],
    ids=str,
)
def test_a_run_as_it_is_written_passes(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = 2 if "shots" in changes else 1
    assert verify(write_finished(tmp_path, **changes), replay) == (settings * 5 * 8, [])


@pytest.mark.parametrize(
    "name",
    [
        *("certificates.parquet", "classes.parquet", "votes.db"),
        *("trials.parquet", "confirmation.parquet", "baselines.parquet"),
    ],
)
def test_a_missing_table_is_named(run: Path, name: str) -> None:
    (run / SETTING / name).unlink()
    assert f"{SETTING}/{name}: is missing" in verify(sealed(run))[1]


def test_a_missing_log_is_named_and_so_is_one_too_many(run: Path) -> None:
    logs = run / SETTING / "certificates"
    (logs / "published.tsv").rename(logs / "front-3.tsv")
    missing, surplus = verify(sealed(run))[1]
    assert missing.startswith(f"{SETTING}: published: {logs / 'published.tsv'}: cannot be read")
    assert surplus == f"{SETTING}: front-3: there is a log, but no certificate"


def test_a_missing_weight_or_picture_is_known_by_its_digest(run: Path) -> None:
    for name in ("denoisers/best.safetensors", "curves.png"):
        (run / SETTING / name).unlink()
        assert f"{SETTING}/{name}: is missing" in verify(run)[1]


def without(path: Path, column: str, value: object) -> None:
    """Take the rows with a value out of a table."""
    table = pq.read_table(path)
    pq.write_table(table.filter(pc.not_equal(table[column], pa.scalar(value))), path)


def test_a_setting_that_only_the_manifest_knows_is_named(tmp_path: Path) -> None:
    run = write_finished(tmp_path, shots="3,4")
    without(run / "summary.parquet", "setting", "digits-4shot")
    shutil.rmtree(run / "digits-4shot")
    expected = "summary.parquet: has no row of digits-4shot, a setting of manifest.json"
    assert verify(sealed(run))[1] == [expected]


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ("summary.parquet", f"summary.parquet: has no row of {SETTING}: best"),
        (f"{SETTING}/certificates.parquet", f"{SETTING}/certificates.parquet: is of none, "),
        (f"{SETTING}/classes.parquet", f"{SETTING}/classes.parquet: best, class 0: has no row"),
    ],
)
def test_a_missing_variant_is_named(run: Path, table: str, expected: str) -> None:
    without(run / table, "variant", "best")
    assert any(line.startswith(expected) for line in verify(sealed(run))[1])


def test_a_missing_image_is_named(run: Path) -> None:
    path = run / SETTING / "certificates.parquet"
    image = pq.read_table(path)["image_index"][3].as_py()
    without(path, "image_index", image)
    lines = verify(sealed(run))[1]
    for variant in ("none", "label_consistency", "published", "best"):
        assert f"{SETTING}: {variant}, image {image}: is missing" in lines


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("summary.parquet", "tuning_accuracy"),
        (f"{SETTING}/trials.parquet", "learning_rate"),
        (f"{SETTING}/confirmation.parquet", "standard_error"),
        (f"{SETTING}/front.parquet", "p_lower"),
    ],
)
def test_a_number_that_is_none_is_named(run: Path, table: str, column: str, value: float) -> None:
    edit(run / table, column, lambda _: value)
    expected = f"row 0: {column} is {value}"
    assert any(line.endswith(expected) for line in verify(sealed(run))[1])


def edit(path: Path, column: str, change: Callable[[Any], Any]) -> None:
    """Change the first row of a table."""
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    first, *others = table[column].to_pylist()
    values = pa.array([change(first), *others], table.schema.field(place).type)
    field = table.schema.field(place).with_nullable(True)
    pq.write_table(table.set_column(place, field, values), path)


def test_what_is_wrong_is_named_by_row_and_field(run: Path) -> None:
    for table, column in {
        f"{SETTING}/certificates.parquet": "votes",
        f"{SETTING}/confirmation.parquet": "search_objective",
        f"{SETTING}/classes.parquet": "answers",
        "summary.parquet": "score_high",
    }.items():
        edit(run / table, column, lambda value: value + 1)
    lines = verify(sealed(run))[1]
    for expected in (
        f"{SETTING}: none, image 0: votes is ",
        f"{SETTING}/confirmation.parquet, trial 0: search_objective is 1.5, but should be 0.5",
        f"{SETTING}/classes.parquet: none, class 0: answers is ",
        f"{SETTING}: none: the summary: score_high is ",
    ):
        assert sum(line.startswith(expected) for line in lines) == 1, expected


def test_a_run_that_has_not_ended_does_not_pass(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    del manifest["files"]
    (run / "manifest.json").write_text(json.dumps(manifest))
    (line,) = verify(run)[1]
    assert line == "manifest.json: has no digests of files: the run has not ended"


@pytest.mark.parametrize(
    "name", [f"{SETTING}/front.parquet", f"{SETTING}/trials.parquet", "summary.parquet"]
)
def test_tables_of_different_runs_are_refused_side_by_side(
    run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(write_finished(tmp_path / "other") / name, run / name)
    with pytest.raises(StoreError, match=rf"{name}: is of the run \w+, but manifest\.json of"):
        load_run(run)
    for command, arguments, code in (
        # A report names the table and does without it.
        (report, [run], 0),
        (certify, [run, "--out", tmp_path / "again"], 2),
        (certify, ["--verify", run], 1),
    ):
        assert command([str(argument) for argument in arguments]) == code
        said = capsys.readouterr()
        assert f"{name}: is of the run " in said.err + said.out
    assert not (tmp_path / "again").exists()


def test_the_command_names_every_difference_and_counts_them(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certify(["--verify", str(run)]) == 0
    assert capsys.readouterr().out == f"40 certificates of {run} follow from their counts\n"
    edit(run / "summary.parquet", "acr_low", lambda value: value - 0.01)
    assert certify(["--verify", str(run)]) == 1
    said = capsys.readouterr()
    acr, digest = said.out.splitlines()
    assert acr.startswith(f"{SETTING}: none: the summary: acr_low is ")
    assert digest == "summary.parquet: has changed since the run ended"
    assert said.err == f"error: 2 differences in 40 certificates of {run}\n"


def test_a_folder_without_a_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"summary\.parquet"):
        verify(tmp_path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("test_indices", [0, "62"]),
        ("radii", "0.25"),
        ("classes", True),
        ("image_shape", None),
        ("precision", 32),
        ("tuning_indices", {}),
    ],
)
def test_a_manifest_with_values_of_another_kind_is_named(
    run: Path, key: str, value: object
) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"][SETTING][key] = value
    (run / "manifest.json").write_text(json.dumps(manifest))
    (line,) = verify(sealed(run))[1]
    assert line.startswith(f"manifest.json, {SETTING}: {key} is ")


def test_names_of_classes_must_be_the_same_everywhere(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    names = manifest["settings"][SETTING]["class_names"]
    for changed in (["somebody else's", *names[1:]], names[1:]):
        manifest["settings"][SETTING]["class_names"] = changed
        (run / "manifest.json").write_text(json.dumps(manifest))
        lines = verify(sealed(run))[1]
        if len(changed) < len(names):
            assert lines == [f"manifest.json, {SETTING}: names 9 of 10 classes"]
        else:
            metadata = f"{SETTING}/certificates.parquet: class_names is "
            assert any(line.startswith(metadata) for line in lines)


@pytest.mark.parametrize("settings", [None, [], 3, {SETTING: 3}])
def test_a_manifest_without_settings_does_not_pass(run: Path, settings: object) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["settings"] = settings
    (run / "manifest.json").write_text(json.dumps(manifest))
    lines = verify(run)[1]
    assert lines[0] == f"manifest.json: has no setting {SETTING}, which summary.parquet has"


def test_an_empty_cell_is_named(run: Path) -> None:
    path = run / SETTING / "certificates.parquet"
    edit(path, "radius", lambda _: None)
    assert verify(run) == (0, [f"{path}: row 0 has no value for radius"])
    assert report([str(run)]) == 0
    assert "row 0 has no value for radius" in (run / "report.html").read_text()


def test_a_folder_of_trials_that_no_table_names_is_named(run: Path) -> None:
    shutil.copytree(run / SETTING, run / "digits-4shot")
    lines = verify(run, replay)[1]
    assert "digits-4shot: is a folder of trials, but no setting of manifest.json" in lines


def test_a_repeated_row_is_named(run: Path) -> None:
    path = run / SETTING / "certificates.parquet"
    table = pq.read_table(path)
    image = table["image_index"][0].as_py()
    pq.write_table(pa.concat_tables([table, table.slice(0, 1)]), path)
    variant = table["variant"][0].as_py()
    assert f"{SETTING}: {variant}, image {image}: is there twice" in verify(sealed(run))[1]


def test_metadata_that_is_not_text_and_json_without_end_are_errors_in_one_line(run: Path) -> None:
    path = run / SETTING / "certificates.parquet"
    table = pq.read_table(path)
    metadata = table.schema.metadata | {b"device": b"\xff\xfe"}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    (line,) = verify(run)[1]
    assert line.startswith(f"{path}: its metadata is not text")
    (run / "manifest.json").write_text("[" * 100_000)
    (line,) = verify(run)[1]
    assert line.startswith(f"{run / 'manifest.json'}: cannot be read")


def test_what_cannot_be_read_is_not_counted(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "summary.parquet").write_bytes(b"")
    assert certify(["--verify", str(run)]) == 1
    assert capsys.readouterr().err == f"error: {run} cannot be verified\n"


def test_other_flags_beside_verify_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certify(["--verify", str(run), "--sigma=0.5"]) == 2
    assert "--sigma: does not go with --verify" in capsys.readouterr().err
    assert certify(["--verify", str(run), "--n=5"]) == 2
