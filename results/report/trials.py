"""The table of trials, reduced to what differs between them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from results.report import formats
from results.run import Setting
from results.schema import Row


@dataclass(frozen=True)
class Column:
    """A column: its header, whether it holds text, and its cells with their values.

    A column is `sorted_by_value` if the texts of its numbers are not numbers to a script, as in
    2 min 5 s.
    """

    header: str
    text: bool
    cells: Sequence[tuple[str, Any]]
    sorted_by_value: bool = False


@dataclass(frozen=True)
class TrialsTable:
    """The columns that differ, and what is the same in all trials, by name."""

    columns: Sequence[Column]
    constant: Mapping[str, str]


def trials_table(setting: Setting) -> TrialsTable:
    """The table of a setting's trials.

    Seeds always differ and say nothing; they are in trials.parquet.
    """
    rows = setting.trials
    names = [*setting.hyperparameters, "epochs", "node"]
    differing = [name for name in names if len({row[name] for row in rows}) > 1]
    hyperparameters = [name for name in differing if name in setting.hyperparameters]
    columns = [_column(rows, "Trial", "number")]
    first = {row["root"]: row["number"] for row in reversed(rows)}
    if len(first) < len(rows):
        retries = [None if (n := first[row["root"]]) == row["number"] else n for row in rows]
        columns.append(Column("Retry of", False, [(formats.cell(r), r) for r in retries]))
    columns += [
        _column(rows, "Origin", "origin"),
        _column(rows, "State", "state"),
        _column(rows, "Score", "objective", formats.number),
        _column(rows, "Clean accuracy", "accuracy", _share),
        *(_column(rows, name, name) for name in hyperparameters),
        *(_column(rows, "Epochs", name) for name in differing if name == "epochs"),
        _column(rows, "Time", "seconds", formats.duration),
        *(_column(rows, "Host", name) for name in differing if name == "node"),
    ]
    if any(row["error"] for row in rows):
        columns.append(_column(rows, "Error", "error"))
    same = {name: formats.cell(rows[0][name]) for name in names if name not in differing and rows}
    return TrialsTable(columns, {name: value for name, value in same.items() if value})


def _column(rows: Sequence[Row], header: str, name: str, shown: Any = formats.cell) -> Column:
    values = [row[name] for row in rows]
    text = any(isinstance(value, str) for value in values)
    cells = [(shown(value), value) for value in values]
    return Column(header, text, cells, not text and not all(_is_number(cell) for cell, _ in cells))


def _share(value: float | None) -> str:
    return "" if value is None else formats.percent(value)


def _is_number(text: str) -> bool:
    try:
        float(text or 0)
    except ValueError:
        return False
    return True
