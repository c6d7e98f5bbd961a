"""Atomic files: text, JSON, Parquet tables with explicit schemas, and Cohen et al.'s logs."""

import contextlib
import csv
import io
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from results.schema import Row

_COHEN_COLUMNS = ["idx", "label", "predict", "radius", "correct", "time"]
_COHEN_STEP = Decimal("0.000001")
# Enough digits for the largest double, so that rounding down never fails.
_COHEN_CONTEXT = Context(prec=400, rounding=ROUND_FLOOR)


class StoreError(ValueError):
    """A file cannot be read or written as asked; the message is one line that names it."""


class CohenRow(NamedTuple):
    """One image of a certification log; `predict` is -1 and `radius` 0 for an abstention.

    `radius` is L2 in pixel units on the [0, 1] scale, `time` is in seconds.
    """

    idx: int
    label: int
    predict: int
    radius: float
    correct: bool
    time: float


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` atomically, creating its folder: readers see the old or new file.

    Raises:
        OSError: if the folder cannot be written; an older file is then left as it was.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _fsync_folder(path.parent)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text` in UTF-8, in one step; raises as `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, obj: object) -> None:
    """Replace `path` by `obj` as indented JSON, in one step.

    Raises:
        StoreError: if `obj` holds something that JSON cannot express, such as NaN or infinity.
        OSError: as `write_bytes`.
    """
    try:
        text = json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StoreError(f"{path}: cannot be written as JSON: {error}") from error
    write_text(path, text + "\n")


def write_table(
    path: Path,
    rows: Sequence[Row],
    schema: pa.Schema,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Replace `path` by a Parquet table of `rows`, in one step.

    `metadata` (hashes, precision, device, ...) is added to the schema's own in the file.

    Raises:
        StoreError: if a row lacks a column or has an unknown one, or a value does not fit.
        OSError: as `write_bytes`.
    """
    for index, row in enumerate(rows):
        _check_keys(path, index, row, schema)
    columns = [_column(path, rows, field) for field in schema]
    merged = {**_encoded(metadata or {}), **(schema.metadata or {})}
    table = pa.Table.from_arrays(columns, schema=schema.with_metadata(merged))
    buffer = io.BytesIO()
    pq.write_table(table, buffer, write_page_checksum=True)
    write_bytes(path, buffer.getvalue())


def _encoded(metadata: Mapping[str, str]) -> dict[bytes, bytes]:
    return {key.encode(): value.encode() for key, value in metadata.items()}


def _check_keys(path: Path, index: int, row: Row, schema: pa.Schema) -> None:
    missing = [name for name in schema.names if name not in row]
    unknown = [name for name in row if name not in schema.names]
    if missing or unknown:
        raise StoreError(f"{path}: row {index} lacks columns {missing}, has unknown {unknown}")


def _column(path: Path, rows: Sequence[Row], field: pa.Field) -> pa.Array:
    values = [row[field.name] for row in rows]
    if None in values and not field.nullable:
        raise StoreError(f"{path}: row {values.index(None)} has no value for {field.name}")
    try:
        column = pa.array(values, field.type)
        # Arrow silently truncates 2.5 to 2.
        if pa.types.is_integer(field.type) and column.to_pylist() != values:
            raise ValueError("not every value is an integer")
        return column
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise StoreError(
            f"{path}: column {field.name} is {field.type}: {_one_line(error)}"
        ) from error


def read_table(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """Rows of a Parquet table that has every column of `schema`; further columns are kept.

    A trials table, whose hyperparameters the reader need not know, is read with
    `trials_schema({})`.

    Raises:
        StoreError: if the file is missing or damaged, or a column is missing, has a wrong type, or
            has no value where one must be.
    """
    with _opened(path) as file:
        table = file.read()
    version = table.schema.metadata or {}
    wanted = schema.metadata[b"schema_version"].decode()
    found = version.get(b"schema_version", b"none").decode()
    if found != wanted:
        raise StoreError(
            f"{path}: schema version is {found}, expected {wanted}; read it with the version of "
            "this project that wrote it"
        )
    for field in schema:
        if field.name not in table.column_names:
            raise StoreError(f"{path}: column {field.name} is missing")
        kind = table.schema.field(field.name).type
        if kind != field.type:
            raise StoreError(f"{path}: column {field.name} is {kind}, expected {field.type}")
        if not field.nullable and (column := table[field.name]).null_count:
            row = column.is_null().to_pylist().index(True)
            raise StoreError(f"{path}: row {row} has no value for {field.name}")
    rows: list[dict[str, Any]] = table.to_pylist()
    return rows


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a table, as given to `write_table`: hashes, precision, device and so on.

    Raises:
        StoreError: if the file is missing or damaged.
    """
    with _opened(path) as file:
        metadata = file.schema_arrow.metadata or {}
    try:
        return {key.decode(): value.decode() for key, value in metadata.items()}
    except UnicodeDecodeError as error:
        raise StoreError(f"{path}: its metadata is not text: {error}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    if not path.is_file():
        raise StoreError(f"{path}: no such file")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file
    except (pa.ArrowException, OSError) as error:
        raise StoreError(f"{path}: not a readable Parquet file: {_one_line(error)}") from error


def write_cohen_tsv(path: Path, rows: Sequence[Row]) -> None:
    """Replace `path` by a log in Cohen et al.'s format, in one step.

    `rows` are rows of `schema.CERTIFICATES`, of one variant. The radius is printed with six
    decimals and rounded down: a printed radius is never larger than the certified one.
    Source: Cohen et al. 2019, the logs published with their code.

    Raises:
        StoreError: if a radius is negative or not finite.
        OSError: as `write_bytes`.
    """
    lines = ["\t".join(_COHEN_COLUMNS)]
    for row in rows:
        radius, predicted, label = row["radius"], row["predicted"], row["label"]
        if not (math.isfinite(radius) and radius >= 0):
            raise StoreError(f"{path}: image {row['image_index']} has the radius {radius}")
        printed = Decimal(float(radius)).quantize(_COHEN_STEP, context=_COHEN_CONTEXT)
        correct = int(predicted == label)
        lines.append(
            f"{row['image_index']}\t{label}\t{predicted}\t{printed:f}\t{correct}"
            f"\t{row['seconds']:.3f}"
        )
    write_text(path, "\n".join(lines) + "\n")


def read_cohen_tsv(path: Path) -> list[CohenRow]:
    """Rows of a log in Cohen et al.'s format; time may be seconds or h:mm:ss, as published.

    Raises:
        StoreError: if the file is missing, or is not such a log.
    """
    try:
        with path.open(newline="") as file:
            header, *rows = list(csv.reader(file, delimiter="\t")) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise StoreError(f"{path}: cannot be read: {_one_line(error)}") from error
    if header != _COHEN_COLUMNS:
        raise StoreError(f"{path}: the columns are not {' '.join(_COHEN_COLUMNS)}")
    return [_cohen_row(path, line, row) for line, row in enumerate(rows, start=2)]


def _cohen_row(path: Path, line: int, row: list[str]) -> CohenRow:
    try:
        idx, label, predict, radius, correct, time = row
        seconds = sum(
            float(part) * 60**power for power, part in enumerate(reversed(time.split(":")))
        )
        parsed = CohenRow(
            int(idx), int(label), int(predict), float(radius), bool(int(correct)), seconds
        )
        if not (math.isfinite(parsed.radius) and parsed.radius >= 0 and correct in {"0", "1"}):
            raise ValueError(f"radius {radius}, correct {correct}")
    except ValueError as error:
        raise StoreError(f"{path}: line {line}: {error}") from error
    return parsed


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
