"""Trials that pause, in searches with real workers."""

import math
from pathlib import Path

import pytest
import ray

from search_spaces import load_space
from tests.support.searches import search_with
from tests.support.signals import pausing_undone
from tests.support.trainables import GOOD, RUNGS, Pauses, attempts
from tuning.cluster import pausing
from tuning.search.tune_internals import IdleWorkers
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")


def ledger_in(folder: Path) -> Ledger:
    url = sqlite_url(folder / "study.db")
    return Ledger(url, "x", load_space("digits"), Plan(3, 2, 0, scheduler="none"), RUNGS)


def test_a_trial_that_pauses_continues_and_has_not_failed(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    search_with(Pauses, ledger, tmp_path, tmp_path)
    assert ledger.finished
    records = ledger.attempts.records()
    assert {(r.state, r.restarts, r.error) for r in records} == {("complete", 0, "")}
    assert {r.objective for r in records} == {GOOD}
    # No rung was trained twice.
    for number in range(len(ledger.points)):
        assert [len(attempts(tmp_path, number, epochs)) for epochs in RUNGS] == [1, 1]


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
    workers, hosts = IdleWorkers(lambda: math.inf), set[str]()
    monkeypatch.setattr(pausing, "_draining_in", lambda period: hosts)
    assert workers.cache_object("cpu", "first")
    assert list(workers.flush_cached_objects()) == []
    hosts.add("the id of a host")
    assert not workers.cache_object("cpu", "second")
    assert list(workers.flush_cached_objects()) == ["first"]


def test_idle_workers_are_kept_for_the_trials_that_may_need_them() -> None:
    needed = math.inf
    workers = IdleWorkers(lambda: needed)
    for name in ("first", "second", "third"):
        assert workers.cache_object("cpu", name)
    assert list(workers.flush_cached_objects()) == []
    needed = 1
    assert len(list(workers.flush_cached_objects())) == 2
    assert workers.num_cached_objects == 1
    assert list(workers.flush_cached_objects()) == []
    assert len(list(workers.flush_cached_objects(force_all=True))) == 1


def test_a_head_that_does_not_answer_asks_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*arguments: object, **options: object) -> None:
        raise RuntimeError("RPC error: Deadline Exceeded")

    monkeypatch.setattr(pausing, "_internal_kv_exists", fails)
    monkeypatch.setattr(pausing, "_internal_kv_put", fails)
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", fails)
    assert not pausing.PauseRequests()()
    assert pausing.draining() == set()
    pausing.pause_workers()
