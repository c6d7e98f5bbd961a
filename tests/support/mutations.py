"""One change anywhere in a run folder: a cell, a metadata value, a line of a log, a setting."""

import json
import math
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import yaml


class Change(NamedTuple):
    """What was changed: the file in the run folder, the column or key, and how."""

    file: str
    field: str
    how: str


@contextmanager
def changed(folder: Path, file: Path, random: Random) -> Iterator[Change]:
    """The run with one change in `file`, until the end of the block."""
    before = file.read_bytes()
    change = _BY_SUFFIX[file.suffix]
    field, how = change(file, random)
    assert file.read_bytes() != before, (file, field, how)
    try:
        yield Change(str(file.relative_to(folder)), field, how)
    finally:
        file.write_bytes(before)


def changeable(folder: Path) -> list[Path]:
    """Every file of which anything in a run folder follows."""
    names = ("*.parquet", "*/*.parquet", "*/certificates/*.tsv", "*/votes.db", "*.json", "*.yaml")
    return [path for name in names for path in sorted(folder.glob(name))]


def _change_table(file: Path, random: Random) -> tuple[str, str]:
    table = pq.read_table(file)
    if random.random() < 0.15:
        metadata = {k.decode(): v.decode() for k, v in table.schema.metadata.items()}
        key = random.choice(sorted(metadata))
        before = metadata[key]
        metadata[key] = _different(before, random)
        pq.write_table(table.replace_schema_metadata(metadata), file)
        return key, f"metadata {before} -> {metadata[key]}"
    place = random.randrange(table.num_columns)
    row, field = random.randrange(table.num_rows), table.schema.field(place)
    values = table.column(place).to_pylist()
    before = values[row]
    values[row] = _different(before, random, field.type)
    column = pa.array(values, field.type)
    pq.write_table(table.set_column(place, field.with_nullable(True), column), file)
    return field.name, f"row {row}: {before} -> {values[row]}"


def _change_log(file: Path, random: Random) -> tuple[str, str]:
    names, *lines = [line.split("\t") for line in file.read_text().splitlines()]
    row, place = random.randrange(len(lines)), random.randrange(len(names))
    before = lines[row][place]
    digit = random.randrange(len(before))
    while not before[digit].isdigit():
        digit = random.randrange(len(before))
    other = str((int(before[digit]) + random.randint(1, 9)) % 10)
    lines[row][place] = before[:digit] + other + before[digit + 1 :]
    file.write_text("".join("\t".join(line) + "\n" for line in [names, *lines]))
    return names[place], f"line {row + 2}: {before} -> {lines[row][place]}"


def _change_votes(file: Path, random: Random) -> tuple[str, str]:
    with closing(sqlite3.connect(file)) as db, db:
        cursor = db.execute("SELECT rowid, * FROM counts")
        names = [name for name, *_ in cursor.description]
        found = random.choice(cursor.fetchall())
        place = random.randrange(1, len(names))
        before = found[place]
        if names[place] == "votes":
            after: Any = _one_moved(before, random)
        else:
            after = _different(before, random)
        db.execute(f"UPDATE counts SET {names[place]} = ? WHERE rowid = ?", (after, found[0]))
    return names[place], f"{found[1:]}: {before} -> {after}"


def _one_moved(text: str, random: Random) -> str:
    """Votes with one of those for the first class taken away, and given to another or nobody."""
    votes = json.loads(text)
    top = votes.index(max(votes))
    votes[top] -= 1
    votes[(top + random.randrange(1, len(votes))) % len(votes)] += random.choice([0, 1])
    return json.dumps(votes)


def _change_mapping(read: Callable[[str], Any], write: Callable[[Any], str]) -> Any:
    def change(file: Path, random: Random) -> tuple[str, str]:
        content = read(file.read_text())
        owner, key, where = _leaf(content, random)
        before = owner[key]
        owner[key] = _different(before, random)
        file.write_text(write(content))
        return where, f"{before} -> {owner[key]}"

    return change


def _leaf(content: Any, random: Random) -> tuple[Any, Any, str]:
    """A place in nested mappings and lists that holds neither: owner, key, and path of names."""
    names = []
    while True:
        keys = sorted(content) if isinstance(content, dict) else range(len(content))
        key = random.choice(keys)
        if isinstance(content, dict):
            names.append(str(key))
        inner = content[key]
        if not (isinstance(inner, dict | list) and inner):
            return content, key, ".".join(names)
        content = inner


def _different(value: Any, random: Random, kind: pa.DataType | None = None) -> Any:
    """Another value of the same type, near or far."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, float):
        near = [value * (1 + 1e-6) + 1e-6, value + 0.01, -value - 0.5]
        return random.choice([*near, math.nan, math.inf] if kind is not None else near)
    if isinstance(value, int):
        return value + random.choice([-1, 1, 7]) if abs(value) > 1 else value + 1
    if isinstance(value, list):
        return [*value[:-1], (value[-1] if value else 0.0) + 0.125]
    if value is None and kind is not None and not pa.types.is_string(kind):
        return 1 if pa.types.is_integer(kind) else 0.5
    text = value or ""
    return text[:-1] + ("0" if text[-1:] != "0" else "1")


_BY_SUFFIX: dict[str, Callable[[Path, Random], tuple[str, str]]] = {
    ".parquet": _change_table,
    ".tsv": _change_log,
    ".db": _change_votes,
    ".json": _change_mapping(json.loads, lambda content: json.dumps(content, indent=2)),
    ".yaml": _change_mapping(
        yaml.safe_load, lambda content: yaml.safe_dump(content, sort_keys=False)
    ),
}
