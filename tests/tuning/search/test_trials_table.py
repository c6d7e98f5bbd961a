import time
from pathlib import Path

import pytest

from search_spaces import load_space
from tuning.search import trials_table
from tuning.search.trials_table import TrialsTable


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 1000), (0.05, 2)])
def test_a_table_that_takes_long_is_written_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    monkeypatch.setattr(trials_table, "TABLE_EVERY", 0.0)
    monkeypatch.setattr(trials_table, "PAUSE", 20 if seconds else 0)
    written = []

    def records() -> list[object]:
        time.sleep(seconds)
        written.append(tmp_path)
        return []

    table = TrialsTable(tmp_path, load_space("digits"))
    ended = time.monotonic() + 0.5
    while time.monotonic() < ended:
        table.update(records)  # type: ignore[arg-type]
    assert 1 <= len(written) <= most
    assert (tmp_path / "trials.parquet").exists()
