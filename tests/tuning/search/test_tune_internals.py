"""What is private to Ray: whether it is as it was, and a search with real workers."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import ray
from ray import tune
from ray._private.state import GlobalState
from ray.air._internal import usage
from ray.air.execution._internal import RayActorManager
from ray.tune.constants import TUNE_ENV_VARS
from ray.tune.execution import class_cache, tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

from search_spaces import load_space
from tests.support.searches import search_with
from tests.support.trainables import EPOCHS, WORKERS, KillsTheIdle, SaysWho, StartsSlowly
from tuning.search import tune_internals
from tuning.search.tune_internals import SWITCHES, check_internals, configure_tune, interruption
from tuning.study.attempts import TrialRecord
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

pytestmark = pytest.mark.usefixtures("local_ray")
VIRTUAL_WORKERS = 2


def other(*arguments: object) -> None:
    """Not what Ray has."""


def test_ray_has_what_we_rely_on() -> None:
    check_internals()


@pytest.mark.parametrize(
    ("owner", "name", "changed", "named"),
    [
        *((TUNE_ENV_VARS, name, None, name) for name in SWITCHES),
        (tune_internals, "RAY_JOB_CONFIG_JSON_ENV_VAR", "OTHER", "RAY_JOB_CONFIG_JSON_ENV_VAR"),
        (tune_internals, "KEEPALIVE", "RAY_other", "RAY_other"),
        (GlobalState, "get_draining_nodes", None, "GlobalState.get_draining_nodes"),
        (class_cache, "ENV_VARS_TO_PROPAGATE", None, "class_cache.ENV_VARS_TO_PROPAGATE"),
        (class_cache, "DEFAULT_ENV_VARS", None, "class_cache.DEFAULT_ENV_VARS"),
        (tune_controller, "_ObjectCache", other, "tune_controller._ObjectCache"),
        (_ObjectCache, "__init__", other, "_ObjectCache._cached_objects"),
        (_ObjectCache, "cache_object", other, "_ObjectCache.cache_object"),
        (_ObjectCache, "flush_cached_objects", other, "_ObjectCache.flush_cached_objects"),
        (
            TuneController,
            "_maybe_reuse_cached_actor",
            other,
            "TuneController._maybe_reuse_cached_actor",
        ),
        (usage, "tag_callbacks", None, "usage.tag_callbacks"),
        (RayActorManager, "is_actor_started", None, "RayActorManager.is_actor_started"),
        (Trial, "error_file", None, "Trial.error_file"),
        (Trial, "should_recover", None, "Trial.should_recover"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_is_gone_or_changed_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, changed: object, named: str
) -> None:
    if isinstance(owner, set):
        monkeypatch.setattr(tune_internals, "TUNE_ENV_VARS", owner - {name})
    elif name == "error_file":
        monkeypatch.delattr(owner, name)
    else:
        monkeypatch.setattr(owner, name, changed)
    with pytest.raises(RuntimeError, match=rf"^ray {ray.__version__}: {named} is gone [^\n]*$"):
        check_internals()


def test_tune_copies_no_credentials_to_its_workers() -> None:
    configure_tune()
    assert not [name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")]
    assert class_cache.ENV_VARS_TO_PROPAGATE
    assert {name: os.environ[name] for name in SWITCHES} == SWITCHES


def test_an_error_of_our_own_is_not_an_interruption() -> None:
    error = RuntimeError("ours")
    assert interruption(error) == ""
    error.__cause__ = ValueError("ours, too")
    assert interruption(error) == ""


def search(folder: Path, trainable: type[tune.Trainable]) -> list[TrialRecord]:
    """Many short trials, one after the other; what became of every attempt."""
    plan = Plan(7, VIRTUAL_WORKERS, 0, scheduler="none")
    # A trial is complete when it has trained its `epochs`, and all points have these.
    space = load_space("digits").holding({"epochs": EPOCHS})
    ledger = Ledger(sqlite_url(folder / "study.db"), "x", space, plan, (EPOCHS,))
    (folder / "there").mkdir()
    search_with(trainable, ledger, folder, (folder / "there", ledger.points.baselines))
    complete = [record.root for record in ledger.attempts.records() if record.state == "complete"]
    assert sorted(complete) == list(range(len(ledger.points)))
    assert len(ledger.points) > ledger.points.baselines + 2 * VIRTUAL_WORKERS
    return ledger.attempts.records()


def test_workers_stay_from_trial_to_trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It fails if Tune imports this.
    monkeypatch.setitem(sys.modules, "ray.air.integrations.mlflow", None)
    before = vars(tune_controller)["_ObjectCache"]
    records = search(tmp_path, SaysWho)
    assert {record.state for record in records} == {"complete"}
    assert len({record.node for record in records}) == WORKERS
    # Tune is left as it was.
    check_internals()
    assert vars(tune_controller)["_ObjectCache"] is before
    assert TuneController._maybe_reuse_cached_actor.__module__ == TuneController.__module__


def test_a_worker_that_is_starting_is_not_given_up_for_one_that_is_idle(tmp_path: Path) -> None:
    first, second, *_ = sorted(search(tmp_path, StartsSlowly), key=lambda record: record.root)
    assert (first.state, second.state) == ("complete", "complete")
    assert first.node != second.node


def test_a_worker_that_died_while_it_was_idle_costs_no_trial(tmp_path: Path) -> None:
    records = search(tmp_path, KillsTheIdle)
    (failed,) = [record for record in records if record.state != "complete"]
    assert failed.error.startswith("abandoned: The actor died unexpectedly")
