import csv
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.schema import BASELINES, CERTIFICATES, CONFIRMATION, trials_schema
from results.store import (
    StoreError,
    read_cohen_tsv,
    read_metadata,
    read_table,
    write_bytes,
    write_cohen_tsv,
    write_json,
    write_table,
    write_text,
)
from tests.support.invented import (
    HYPERPARAMETERS,
    baseline_rows,
    certificate_rows,
    confirmation_rows,
    trial_rows,
)


def one_line(error: pytest.ExceptionInfo[StoreError]) -> bool:
    return "\n" not in str(error.value)


def test_an_interrupted_write_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_text(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_is_on_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "file", []
    fsync, replace = os.fsync, os.replace

    def logged_fsync(descriptor: int) -> None:
        folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        events.append("folder" if folder else "file")
        fsync(descriptor)

    def logged_replace(source: Path, target: Path) -> None:
        assert source.parent == target.parent
        events.append("replace")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", logged_fsync)
    monkeypatch.setattr(os, "replace", logged_replace)
    write_bytes(path, b"data")
    assert events == ["file", "replace", "folder"]


def test_written_files_have_the_permissions_of_ordinary_ones(tmp_path: Path) -> None:
    (tmp_path / "ordinary").write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "ordinary").stat().st_mode


def test_missing_folders_are_created(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "c.txt", "é")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "é".encode()


def test_json_comes_back_as_written(tmp_path: Path) -> None:
    value = {"b": [1, 2.5, None], "a": "é"}
    write_json(tmp_path / "x.json", value)
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == value


@pytest.mark.parametrize("value", [float("nan"), {"x": object()}])
def test_what_json_cannot_say_is_refused(tmp_path: Path, value: object) -> None:
    with pytest.raises(StoreError, match=r"x\.json") as error:
        write_json(tmp_path / "x.json", value)
    assert one_line(error)
    assert not (tmp_path / "x.json").exists()


@pytest.mark.parametrize(
    ("rows", "schema"),
    [
        (certificate_rows("best", 20), CERTIFICATES),
        (trial_rows(), trials_schema(HYPERPARAMETERS)),
        (confirmation_rows(), CONFIRMATION),
        (baseline_rows(), BASELINES),
        ([], BASELINES),
    ],
)
def test_tables_come_back_as_written(
    tmp_path: Path, rows: list[dict[str, Any]], schema: pa.Schema
) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, rows, schema)
    assert read_table(path, schema) == rows


def test_numpy_scalars_are_accepted(tmp_path: Path) -> None:
    row = {
        "sigma": np.float32(0.25),
        "objective": np.float64(0.5),
        "accuracy": np.float64(0.5),
        "votes": np.int64(7),
        "images": np.int32(3),
        "selected": np.bool_(True),
    }
    write_table(tmp_path / "x.parquet", [row], BASELINES)
    assert read_table(tmp_path / "x.parquet", BASELINES) == [row]


def test_trials_are_read_without_knowing_their_hyperparameters(tmp_path: Path) -> None:
    write_table(tmp_path / "t.parquet", trial_rows(), trials_schema(HYPERPARAMETERS))
    assert read_table(tmp_path / "t.parquet", trials_schema({})) == trial_rows()


def test_metadata_joins_the_schema_version_and_cannot_replace_it(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, [], BASELINES, {"device": "cpu", "schema_version": "7"})
    assert read_metadata(path) == {"device": "cpu", "schema_version": "3"}


def test_units_are_in_the_file(tmp_path: Path) -> None:
    write_table(tmp_path / "x.parquet", [], BASELINES)
    field = pq.read_schema(tmp_path / "x.parquet").field("votes")
    assert field.metadata[b"unit"] == b"votes"


def changed(**values: object) -> dict[str, Any]:
    return {**baseline_rows()[0], **values}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (changed(colour="red"), "unknown \\['colour'\\]"),
        (
            {"sigma": 0.25},
            "lacks columns \\['objective', 'accuracy', 'votes', 'images', 'selected'\\]",
        ),
        (changed(sigma=None), "no value for sigma"),
        (changed(images=2.5), "column images is int32"),
        (changed(images=2**31), "column images is int32"),
        (changed(votes=2**70), "column votes is int64"),
        (changed(sigma="large"), "column sigma is double"),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(
    tmp_path: Path, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(StoreError, match=message) as error:
        write_table(tmp_path / "x.parquet", [row], BASELINES)
    assert one_line(error)
    assert not (tmp_path / "x.parquet").exists()


def test_a_missing_table_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"x\.parquet: no such file") as error:
        read_table(tmp_path / "x.parquet", BASELINES)
    assert one_line(error)


@pytest.mark.parametrize("kept", [0, 3, 200, -1])
def test_a_cut_table_is_a_one_line_error(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, baseline_rows(), BASELINES)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match="not a readable Parquet file") as error:
        read_table(path, BASELINES)
    assert one_line(error)


def test_a_flipped_bit_in_the_data_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, certificate_rows("best"), CERTIFICATES)
    data = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(8)
    start = column.dictionary_page_offset or column.data_page_offset
    data[start + column.total_compressed_size - 5] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="not a readable Parquet file"):
        read_table(path, CERTIFICATES)


def test_another_schema_is_a_one_line_error_that_names_the_column(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, baseline_rows(), BASELINES)
    with pytest.raises(StoreError, match="column variant is missing") as error:
        read_table(path, CERTIFICATES)
    assert one_line(error)


def test_another_type_is_an_error_that_names_the_column(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    votes = BASELINES.get_field_index("votes")
    write_table(path, baseline_rows(), BASELINES.set(votes, pa.field("votes", pa.int32())))
    with pytest.raises(StoreError, match="column votes is int32, expected int64"):
        read_table(path, BASELINES)


def test_another_schema_version_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    write_table(path, [], BASELINES.with_metadata({"schema_version": "1"}))
    with pytest.raises(StoreError, match="version is 1, expected 3"):
        read_table(path, BASELINES)


def test_a_log_has_cohens_columns_and_numeric_correct(tmp_path: Path) -> None:
    rows = certificate_rows("published", 50)
    write_cohen_tsv(tmp_path / "x.tsv", rows)
    with (tmp_path / "x.tsv").open() as file:
        lines = list(csv.DictReader(file, delimiter="\t"))
    assert list(lines[0]) == ["idx", "label", "predict", "radius", "correct", "time"]
    assert {line["correct"] for line in lines} == {"0", "1"}
    assert [int(line["idx"]) for line in lines] == [row["image_index"] for row in rows]


def test_a_log_comes_back_as_written_but_for_the_last_digits(tmp_path: Path) -> None:
    rows = certificate_rows("none", 50)
    write_cohen_tsv(tmp_path / "x.tsv", rows)
    for read, row in zip(read_cohen_tsv(tmp_path / "x.tsv"), rows, strict=True):
        assert (read.idx, read.label, read.predict) == (
            row["image_index"],
            row["label"],
            row["predicted"],
        )
        assert read.correct == (row["predicted"] == row["label"])
        assert row["radius"] - 1e-6 < read.radius <= row["radius"]
        assert read.time == pytest.approx(row["seconds"], abs=1e-3)


@given(radius=st.floats(0, allow_infinity=False, allow_nan=False))
def test_a_printed_radius_is_never_rounded_up(
    tmp_path_factory: pytest.TempPathFactory, radius: float
) -> None:
    path = tmp_path_factory.getbasetemp() / "rounding.tsv"
    write_cohen_tsv(path, [{**certificate_rows("best", 1)[0], "radius": radius}])
    printed = read_cohen_tsv(path)[0].radius
    assert radius - 1e-6 <= printed <= radius


@pytest.mark.parametrize("radius", [float("nan"), float("inf"), -0.1])
def test_an_impossible_radius_is_not_written(tmp_path: Path, radius: float) -> None:
    with pytest.raises(StoreError, match="image 0 has the radius"):
        write_cohen_tsv(tmp_path / "x.tsv", [{**certificate_rows("best", 1)[0], "radius": radius}])


def test_times_of_the_original_logs_are_read_as_seconds(tmp_path: Path) -> None:
    text = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t3\t3\t0.378\t1\t1:00:15.5\n"
    (tmp_path / "x.tsv").write_text(text)
    assert read_cohen_tsv(tmp_path / "x.tsv")[0].time == 3615.5


HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns are not idx"),
        ("a\tb\n", "columns are not idx"),
        (HEADER + "0\t3\t3\n", "line 2"),
        (HEADER + "0\t3\t3\t0.1\tyes\t1.0\n", "line 2"),
        (HEADER + "0\t3\t3\t0.1\t2\t1.0\n", "line 2"),
        (HEADER + "0\t3\t3\tinf\t1\t1.0\n", "line 2"),
    ],
)
def test_what_is_not_a_log_is_a_one_line_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.tsv").write_text(text)
    with pytest.raises(StoreError, match=message) as error:
        read_cohen_tsv(tmp_path / "x.tsv")
    assert one_line(error)


def test_a_missing_log_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be read") as error:
        read_cohen_tsv(tmp_path / "x.tsv")
    assert one_line(error)
