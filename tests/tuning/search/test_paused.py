"""Trials that wait at a rung, in a search with real workers."""

from pathlib import Path

import pytest

from search_spaces import load_space
from tests.support.ledgers import result
from tests.support.searches import search_with
from tests.support.trainables import RUNGS, Scores, score_of
from tuning.study.attempts import TrialRecord
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")
SPACE = load_space("digits")


def ledger_in(folder: Path) -> Ledger:
    return Ledger(sqlite_url(folder / "study.db"), "x", SPACE, Plan(14, 8, 0), RUNGS)


def alone(folder: Path) -> tuple[list[TrialRecord], int]:
    """The same search by a worker that never waits, and a trial at whose start others start too."""
    ledger = ledger_in(folder)
    while proposal := ledger.next_proposal():
        number = proposal.number
        pruned = ledger.report(number, RUNGS[0], score_of(number, RUNGS[0]), 0.5)
        assert pruned is not None
        reached = RUNGS[0] if pruned else RUNGS[-1]
        ledger.tell(number, result(score_of(number, reached), reached))
    starts = [ledger._schedule.clock.start_of(root) for root in range(len(ledger.points))]
    searched = range(ledger.points.baselines, len(starts) - 3)
    return ledger.attempts.records(), next(r for r in searched if starts[r] == starts[r + 3])


def test_workers_go_on_with_later_trials_while_one_is_slow(tmp_path: Path) -> None:
    for name in ("alone", "there"):
        (tmp_path / name).mkdir()
    expected, slow = alone(tmp_path / "alone")
    assert {r.state for r in expected} == {"complete", "pruned"}
    ledger = ledger_in(tmp_path)
    # With two workers, three later trials reach their rung only if two of them are paused there.
    search_with(Scores, ledger, tmp_path, (tmp_path / "there", slow))
    assert ledger.finished
    fields = ("root", "state", "hyperparameters", "objective", "epochs", "error")
    found = sorted(ledger.attempts.records(), key=lambda record: record.root)
    for record, same in zip(found, expected, strict=True):
        assert [getattr(record, name) for name in fields] == [
            getattr(same, name) for name in fields
        ]
