"""A search with real workers, which say who they are."""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.execution import tune_controller

from search_spaces import load_space
from tuning.ledger import Ledger
from tuning.plan import Plan
from tuning.resources import Resources
from tuning.search import Limits, Study, run_search
from tuning.storage import local_storage
from tuning.study import sqlite_url

pytestmark = pytest.mark.timeout(120)
EPOCHS, WORKERS, COHORT = 25, 2, 2
SECONDS = 4.0


class SaysWho(tune.Trainable):
    """Trains nothing; its process stands where results name the host.

    It begins when all workers are there, and trials after the baselines take longer than the start
    of a worker: else the first would do everything meanwhile.
    """

    def setup(self, config: object, tasks: Any = None, filesystem: object = None) -> None:
        self.there, self.baselines = tasks["x"]
        (self.there / str(os.getpid())).touch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        while len(list(self.there.iterdir())) < WORKERS:
            time.sleep(0.1)
        time.sleep(SECONDS if self.config["number"] >= self.baselines else 0)
        return {
            "objective": 0.5,
            "accuracy": 0.5,
            "epochs": EPOCHS,
            "losses": [],
            "trial_seconds": 1.0,
            "node": str(os.getpid()),
            "error": "",
            "done": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").touch()


class NoBoard:
    """No TensorBoard."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


@pytest.mark.usefixtures("local_ray")
def test_workers_stay_from_cohort_to_cohort(tmp_path: Path) -> None:
    plan = Plan(7, COHORT, 0, scheduler="none")
    # A trial is complete when it has trained its `epochs`, and all points have these.
    space = load_space("digits").holding({"epochs": EPOCHS})
    ledger = Ledger(sqlite_url(tmp_path / "study.db"), "x", space, plan, (EPOCHS,))
    (tmp_path / "there").mkdir()
    task: Any = (tmp_path / "there", ledger.baselines)
    board: Any = NoBoard()
    before = vars(tune_controller)["_ObjectCache"]
    run_search(
        [Study("x", ledger, task, board, lambda: None)],
        resources=Resources(1, 0.0, WORKERS),
        scratch=local_storage(tmp_path / "tune"),
        limits=Limits(),
        transfer=0,
        trainable=SaysWho,
    )
    records = ledger.records()
    assert len(records) == ledger.roots > ledger.baselines + 2 * COHORT
    assert {record.state for record in records} == {"complete"}
    assert len({record.node for record in records}) == WORKERS
    # Tune is left as it was.
    assert vars(tune_controller)["_ObjectCache"] is before
