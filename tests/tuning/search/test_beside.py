"""Tasks beside the last trials of a search, with real workers."""

from pathlib import Path

import pytest
import ray

from search_spaces import load_space
from tests.support.searches import search_with
from tests.support.trainables import RUNGS, WaitsForNeighbour
from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan


@ray.remote
def make(path: Path) -> None:
    path.touch()


@pytest.mark.usefixtures("local_ray")
def test_a_worker_that_no_trial_needs_any_more_does_something_else(tmp_path: Path) -> None:
    url, made = sqlite_url(tmp_path / "study.db"), tmp_path / "made"
    ledger = Ledger(url, "x", load_space("digits"), Plan(3, 2, 0, scheduler="none"), RUNGS)
    last, early = len(ledger.points) - 1, list[bool]()
    pool = TaskPool(Resources(1, 0.0, 2))

    def submit() -> ray.ObjectRef[None]:
        early.append(not ledger.exhausted)
        return make.remote(made)

    working = pool.begin(pool.result(submit, Urgency.FINAL_TRAINING))
    search_with(WaitsForNeighbour, ledger, tmp_path, (made, last), pool)
    assert ledger.finished
    assert {record.error for record in ledger.attempts.records()} == {""}
    # Not before all trials had begun.
    assert early == [False]
    assert working.done()
    pool.close()
