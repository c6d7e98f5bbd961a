"""A search with real workers, which say who they are."""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from ray import tune
from ray.tune.execution import tune_controller

from search_spaces import load_space
from tests.support.searches import search_with
from tuning.study.attempts import TrialRecord
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.plan import Plan

pytestmark = pytest.mark.usefixtures("local_ray")
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


def search(folder: Path, trainable: type[tune.Trainable]) -> list[TrialRecord]:
    """Three cohorts after that of the baselines; what became of every attempt."""
    plan = Plan(7, COHORT, 0, scheduler="none")
    # A trial is complete when it has trained its `epochs`, and all points have these.
    space = load_space("digits").holding({"epochs": EPOCHS})
    ledger = Ledger(sqlite_url(folder / "study.db"), "x", space, plan, (EPOCHS,))
    (folder / "there").mkdir()
    search_with(trainable, ledger, folder, (folder / "there", ledger.baselines))
    complete = [record.root for record in ledger.records() if record.state == "complete"]
    assert sorted(complete) == list(range(ledger.roots))
    assert ledger.roots > ledger.baselines + 2 * COHORT
    return ledger.records()


def test_workers_stay_from_cohort_to_cohort(tmp_path: Path) -> None:
    before = vars(tune_controller)["_ObjectCache"]
    records = search(tmp_path, SaysWho)
    assert {record.state for record in records} == {"complete"}
    assert len({record.node for record in records}) == WORKERS
    # Tune is left as it was.
    assert vars(tune_controller)["_ObjectCache"] is before


class KillsTheIdle(SaysWho):
    """The last of the baselines ends the worker that waits for it."""

    def step(self) -> dict[str, Any]:
        if self.config["number"] == self.baselines - 1:
            time.sleep(SECONDS)
            (other,) = {int(path.name) for path in self.there.iterdir()} - {os.getpid()}
            os.kill(other, signal.SIGKILL)
        return super().step()


def test_a_worker_that_died_while_it_was_idle_costs_no_trial(tmp_path: Path) -> None:
    records = search(tmp_path, KillsTheIdle)
    (failed,) = [record for record in records if record.state != "complete"]
    assert failed.error.startswith("abandoned: The actor died unexpectedly")
