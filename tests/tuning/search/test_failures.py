"""What goes wrong inside trials: recorded with its reason, retried within limits, never the end."""

from pathlib import Path
from typing import Any

import pytest
import ray

from search_spaces import load_space
from tests.support.searches import search_with
from tests.support.trainables import GOOD, RUNGS, Unreliable, attempts
from tuning.search.paused import PausedTrials
from tuning.search.tune import WORKER_RESTARTS, _interruption
from tuning.study.attempts import TrialRecord
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")
SPACE = load_space("digits")


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory, local_ray: None) -> tuple[Ledger, Path]:
    folder = tmp_path_factory.mktemp("failures")
    ledger = Ledger(sqlite_url(folder / "study.db"), "x", SPACE, Plan(3, 2, 0), RUNGS)
    search_with(Unreliable, ledger, folder, folder)
    return ledger, folder


def record(ledger: Ledger, number: int) -> TrialRecord:
    return ledger.attempts.records()[number]


def test_the_study_ends_all_the_same(outcome: tuple[Ledger, Path]) -> None:
    ledger, folder = outcome
    assert ledger.finished
    states = [r.state for r in ledger.attempts.records()]
    assert [n for n, state in enumerate(states) if state == "failed"] == [1, 2, 4]
    assert states.count("complete") == len(ledger.points) - 3
    assert not (folder / "tune").exists()
    assert all(r.objective == GOOD for r in ledger.attempts.records() if r.state == "complete")


def test_a_loss_that_is_no_number_is_not_tried_again(outcome: tuple[Ledger, Path]) -> None:
    ledger, folder = outcome
    assert record(ledger, 1).error == "loss term mmd became nan in epoch 3"
    assert record(ledger, 1).objective is None
    assert len(attempts(folder, 1, 25)) == 1


def test_a_worker_that_dies_each_time_is_given_up(outcome: tuple[Ledger, Path]) -> None:
    ledger, folder = outcome
    assert "died" in record(ledger, 2).error
    # It went on from its checkpoint each time, and what it had reported is kept.
    assert len(attempts(folder, 2, 25)) == 1
    assert len(attempts(folder, 2, 200)) == 1 + WORKER_RESTARTS
    assert (record(ledger, 2).objective, record(ledger, 2).epochs) == (GOOD, 25)


def test_a_worker_that_dies_once_is_forgiven(outcome: tuple[Ledger, Path]) -> None:
    ledger, folder = outcome
    assert (record(ledger, 3).state, record(ledger, 3).restarts) == ("complete", 1)
    assert "died unexpectedly" in record(ledger, 3).error
    assert (record(ledger, 0).restarts, record(ledger, 0).error) == (0, "")
    assert len(attempts(folder, 3, 200)) == 2


def test_lack_of_memory_is_named(outcome: tuple[Ledger, Path]) -> None:
    ledger, folder = outcome
    assert record(ledger, 4).error == "MemoryError: cannot allocate 80 GB"
    assert record(ledger, 4).restarts == WORKER_RESTARTS
    assert len(attempts(folder, 4, 25)) == 1 + WORKER_RESTARTS


def test_what_tune_does_not_survive_is_no_end_either() -> None:
    class Overwhelmed:
        def fit(self) -> None:
            cause = ray.exceptions.OutOfMemoryError("1 worker was killed\nand much more")
            raise RuntimeError("Caught unexpected exception") from cause

    tuner: Any = Overwhelmed()
    paused = PausedTrials({}, lambda: 2)
    assert _interruption(tuner, paused) == "1 worker was killed"
