"""What Ray calls the tasks of a search."""

from pathlib import Path
from typing import Any

import pytest
import ray

from search_spaces import load_space
from tests.support.searches import search_with
from tests.support.trainables import GOOD, RUNGS, Climbs
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")


class SaysItsName(Climbs):
    """Trials that write down what Ray calls them."""

    def step(self) -> dict[str, Any]:
        context = ray.get_runtime_context()
        said = self.given / f"{self.config['number']}-{self.epochs}"
        said.write_text(context.get_task_name())
        return self.arrived(GOOD)


def test_tasks_are_named_by_setting_trial_epoch_and_score(tmp_path: Path) -> None:
    said = tmp_path / "said"
    said.mkdir()
    url = sqlite_url(tmp_path / "study.db")
    ledger = Ledger(url, "x", load_space("digits"), Plan(2, 2, 0), RUNGS)
    search_with(SaysItsName, ledger, tmp_path, task=said)
    names = {path.name: path.read_text() for path in said.iterdir()}
    for record in ledger.attempts.records():
        label = record.label
        assert names[f"{record.number}-25"] == f"x: {label}, from epoch 1"
        assert names[f"{record.number}-200"] == f"x: {label}, from epoch 26, score 0.400"
    assert names["0-25"] == "x: 000 published, from epoch 1"
