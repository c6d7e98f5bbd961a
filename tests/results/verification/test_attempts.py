"""Points of a search that took several attempts, whose trials have higher numbers than they."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from results.verification import verify
from tests.support.sealing import sealed
from tuning.certification.replay import replay

SETTING = "digits-3shot"


def changed(path: Path, change: Callable[[list[dict[str, Any]]], None]) -> None:
    table = pq.read_table(path)
    rows = table.to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.fixture
def interrupted(run: Path) -> Path:
    """The run, as if an attempt at point 1 had been interrupted: numbers are above roots."""

    def later(column: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row[column] = row[column] and row[column] + 1

    for name in ("trials", "confirmation"):
        changed(run / SETTING / f"{name}.parquet", partial(later, "number"))
    changed(run / "summary.parquet", partial(later, "trial"))
    again = {"number": 1, "state": "failed", "objective": None, "error": "abandoned"}
    changed(run / SETTING / "trials.parquet", lambda rows: rows.insert(1, rows[1] | again))
    return sealed(run)


def test_points_that_took_several_attempts_are_no_differences(interrupted: Path) -> None:
    assert verify(interrupted, replay)[1] == []


@pytest.mark.parametrize("change", [{"sigma": 0.2}, {"root": 2}, {"root": 40}, {"root": -1}])
def test_an_attempt_that_is_not_at_its_point_is_named(
    interrupted: Path, change: dict[str, Any]
) -> None:
    changed(interrupted / SETTING / "trials.parquet", lambda rows: rows[1].update(change))
    problems = verify(sealed(interrupted), replay)[1]
    assert any(line.startswith(f"{SETTING}/trials.parquet") for line in problems)
