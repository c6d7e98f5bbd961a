"""Trials that pause, in searches with real workers."""

import os
from pathlib import Path

import pytest

from search_spaces import load_space
from tests.support.runs import HANGING
from tests.support.searches import search_with
from tests.support.signals import handlers_kept, pausing_undone
from tests.support.trainables import GOOD, RUNGS, Pauses, attempts
from tuning.cluster import pausing
from tuning.cluster.ending import ENDING
from tuning.errors import Ended
from tuning.search.tune_internals import IdleWorkers
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")


def ledger_in(folder: Path) -> Ledger:
    url = sqlite_url(folder / "study.db")
    return Ledger(url, "x", load_space("digits"), Plan(3, 2, 0, scheduler="none"), RUNGS)


@ENDING.listening("continue")
def search(ledger: Ledger, folder: Path) -> None:
    ENDING.grace = HANGING
    search_with(Pauses, ledger, folder, folder)


def check_complete(ledger: Ledger, folder: Path) -> None:
    """Every point has its result, and no rung was trained twice."""
    assert ledger.finished
    complete = [r for r in ledger.attempts.records() if r.state == "complete"]
    assert sorted(r.root for r in complete) == list(range(len(ledger.points)))
    assert {r.objective for r in complete} == {GOOD}
    assert len(list(folder.glob("*-25-*"))) == len(ledger.points)
    assert len(list(folder.glob("*-200-*"))) == len(ledger.points)


def test_a_trial_that_pauses_continues_and_has_not_failed(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    with handlers_kept():
        search(ledger, tmp_path)
    check_complete(ledger, tmp_path)
    records = ledger.attempts.records()
    assert {(r.state, r.restarts, r.error) for r in records} == {("complete", 0, "")}
    assert len(attempts(tmp_path, 0, 200)) == 1


def test_a_search_that_is_to_end_saves_its_trials_and_a_later_one_continues(
    tmp_path: Path,
) -> None:
    (tmp_path / "driver").write_text(str(os.getpid()))
    with handlers_kept(), pausing_undone(), pytest.raises(Ended) as caught:
        search(ledger_in(tmp_path), tmp_path)
    assert caught.value.exit_code == 143
    # What had begun was saved, and nothing began since.
    saved = list((tmp_path / "tune").glob("*/*/checkpoint_*/training.pt"))
    assert 1 <= len({path.parent.parent.name for path in saved}) <= 2
    (tmp_path / "driver").unlink()
    ledger = ledger_in(tmp_path)
    ledger.reconcile()
    with handlers_kept():
        search(ledger, tmp_path)
    check_complete(ledger, tmp_path)
    abandoned = {r.error for r in ledger.attempts.records() if r.state == "failed"}
    assert abandoned == {"abandoned: the run was interrupted"}


def test_workers_are_asked_to_pause_when_the_driver_ends() -> None:
    asked = pausing.PauseRequests()
    assert not asked()
    with pausing_undone():
        pausing.pause_workers()
        asked._due = 0.0
        assert asked()
    asked._due = 0.0
    assert not asked()


def test_no_idle_worker_is_kept_while_a_host_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    workers, hosts = IdleWorkers(), set[str]()
    monkeypatch.setattr(pausing, "_draining_in", lambda period: hosts)
    assert workers.cache_object("cpu", "first")
    assert list(workers.flush_cached_objects()) == []
    hosts.add("the id of a host")
    assert not workers.cache_object("cpu", "second")
    assert list(workers.flush_cached_objects()) == ["first"]
