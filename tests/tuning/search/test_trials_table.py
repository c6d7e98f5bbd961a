import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.records import record
from tuning.config import make_config
from tuning.search import trials_table
from tuning.search.trials_table import TrialsTable, write_trials
from tuning.setting.setting import Setting, make_settings

CONTEXT: Any = SimpleNamespace(provenance={"run_id": "7e57"})


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    config = make_config({"name": "x", "out": tmp_path, "shots": "5", "certify_images": 5})
    (made,) = make_settings(config)
    made.folder.mkdir(parents=True)
    return made


def test_steps_are_the_batches_of_all_epochs(setting: Setting) -> None:
    assert len(setting.shots.train_labels) == 40
    write_trials(setting, [record(0, batch_size=40), record(1, batch_size=15)], CONTEXT)
    table = pq.read_table(setting.folder / "trials.parquet")
    assert table.schema.metadata[b"run_id"] == b"7e57"
    rows = table.to_pylist()
    assert [(row["epochs"], row["steps"]) for row in rows] == [(600, 600), (600, 1800)]


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 1000), (0.05, 2)])
def test_a_table_that_takes_long_is_written_seldom(
    setting: Setting, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    monkeypatch.setattr(trials_table, "TABLE_EVERY", 0.0)
    monkeypatch.setattr(trials_table, "PAUSE", 20 if seconds else 0)
    written = []

    def records() -> list[object]:
        time.sleep(seconds)
        written.append(setting)
        return []

    table = TrialsTable(setting, CONTEXT)
    ended = time.monotonic() + 0.5
    while time.monotonic() < ended:
        table.update(records)  # type: ignore[arg-type]
    assert 1 <= len(written) <= most
    assert (setting.folder / "trials.parquet").exists()
