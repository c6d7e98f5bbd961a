"""All private names of Ray that `tuning` uses, each with its reason.

Used here:

- environment variables that Tune reads when a search begins (`SWITCHES`);
- `tune.execution.class_cache.ENV_VARS_TO_PROPAGATE`, the variables that Tune copies to its workers,
  and `DEFAULT_ENV_VARS`, those that it sets there;
- `tune.utils.object_cache._ObjectCache` and its place in `tune.execution.tune_controller`: the
  workers that wait for a trial;
- `TuneController._maybe_reuse_cached_actor`, with which Tune gives such a worker to a trial, the
  controller's actors, and `RayActorManager.is_actor_started`, which is so from when their resources
  are theirs;
- `air._internal.usage.tag_callbacks`, which Tune calls for Ray's usage statistics;
- that a RuntimeError is raised from the error of Ray that ended a whole search;
- `Trial.error_file` and its format: callbacks do not get the reason of a failure;
- `Trial.temporary_state.ray_actor`, the worker of a trial;
- `Trial.should_recover`: whether Tune gave up a trial before it had failed as often as it may.

Used in `cluster.pausing`:

- the key-value store of Ray's head, in which a worker sees that the driver ends;
- `ray._private.state.state.get_draining_nodes`, the hosts that are to leave the cluster.

Used in `cluster.local_ray`: the names of folders, `session_*_PID`, of the limits of a start, and of
what workers import and how many idle ones stay (tests/tuning/cluster/test_preloading.py).

Used in `cluster.watching`: that a raylet has the id of its host on its command line.

Used in `cluster.connection`, because Ray must find them when it is imported:

- the job configuration that Ray hands to the driver of a submitted job;
- how often Ray's gRPC clients ask whether a connection is still there.

Used in `trainables.trainable`:
- `_raylet.setproctitle`, with which Ray titles the processes of its workers.

`check_internals` checks that they are unchanged; what names and signatures do not show is tested in
tests/tuning/search/test_failures.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray._private.state import GlobalState
from ray.air._internal import usage
from ray.air.execution._internal import RayActorManager
from ray.tune.constants import TUNE_ENV_VARS
from ray.tune.execution import class_cache, tune_controller
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

from tuning.cluster.connection import IN_JOB, KEEPALIVE
from tuning.cluster.pausing import leaving

SWITCHES = {
    # An interrupted run ends at once, and is resumed from the ledger.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The run folder has its own tables and TensorBoard.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The searcher decides how many trials to start, because more hosts may join; and an autoscaler
    # must see the trials that wait.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
    # A run resumes from the ledger, so Tune need not keep its own record of all trials.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
}


def configure_tune() -> None:
    """Set up Tune in this process for the searches of the ledgers."""
    os.environ.update(SWITCHES)
    # Tune would copy the bucket's keys to where others can see them: command lines and Ray's logs.
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")
    }
    # With variables of its own, a worker cannot be a process that waits since Ray started. The only
    # one is for a library that is not used here.
    class_cache.DEFAULT_ENV_VARS.clear()
    # To count callbacks that are not used here, Tune would import MLflow, W&B, Comet and Aim.
    vars(usage)["tag_callbacks"] = _count_no_callbacks


def _count_no_callbacks(callbacks: object) -> bool:
    """That nothing was counted."""
    return False


class IdleWorkers(_ObjectCache):
    """Keeps every idle worker until there are no more trials; `needed` is how many may get one.

    Tune keeps one, and ends the others: they would start again and load PyTorch, which takes longer
    than a small trial. All trials need the same resources, and there are never
    more of them than allowed workers, so idle workers take nothing from others. If one dies in the
    meantime, this is noticed when it gets a trial, which the ledger then proposes again. No worker
    is kept while a host is to leave: it would wait for trials there.
    """

    def __init__(self, needed: Callable[[], float], may_keep_one: bool = True) -> None:
        super().__init__(may_keep_one)
        self._needed = needed

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep a worker."""
        if leaving():
            return False
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """The workers that are to end."""
        all_end = force_all or (self._num_cached_objects and leaving())
        kept = 0 if all_end else self._needed()
        for workers in self._cached_objects.values():
            while workers and self._num_cached_objects > kept:
                self._num_cached_objects -= 1
                yield workers.pop()


@contextmanager
def idle_workers_kept(needed: Callable[[], float]) -> Iterator[None]:
    """Lose no worker in the searches that this process starts during the block.

    An idle worker is kept, and not given to a trial whose own worker is starting: Tune would end
    that one, and start another for the next trial. With trials shorter than such a start, one
    worker would do everything.
    """
    cache, give = vars(tune_controller)["_ObjectCache"], TuneController._maybe_reuse_cached_actor

    def give_unless_starting(controller: Any, trial: Trial) -> bool:
        own = controller._trial_to_actor.get(trial)
        starting = own is not None and controller._actor_manager.is_actor_started(own)
        if starting and trial not in controller._resetting_trials:
            return False
        return give(controller, trial)

    vars(tune_controller)["_ObjectCache"] = partial(IdleWorkers, needed)
    TuneController._maybe_reuse_cached_actor = give_unless_starting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        TuneController._maybe_reuse_cached_actor = give  # type: ignore[method-assign]
        vars(tune_controller)["_ObjectCache"] = cache


def interruption(error: RuntimeError) -> str:
    """Why Tune ended a search, in one line, if an error of Ray was the cause; otherwise empty.

    Tune fails, for example, when Ray kills workers because a host runs out of memory.
    """
    cause = error.__cause__
    return str(cause).strip().splitlines()[0] if isinstance(cause, ray.exceptions.RayError) else ""


def actor_of(trial: Trial) -> Any:
    """The handle of the trial's worker; None without one."""
    return trial.temporary_state.ray_actor


def failure_reason(trial: Trial) -> str:
    """The most informative line about the trial's last failure, from Tune's own record of it."""
    try:
        record = Path(str(trial.error_file)).read_text()
    except OSError:
        return "the worker failed, and Ray kept no record of it"
    last = re.split(r"^Failure # .*\n", record, flags=re.MULTILINE)[-1]
    lines = [line for line in re.sub(r"\x1b\[\d*m", "", last).splitlines() if line.strip()]
    # The traceback of an exception ends with its message; the death of a worker begins with it.
    return lines[-1] if lines[0].startswith("ray::") else lines[0]


def check_internals() -> None:
    """Fail in one line if Ray no longer has what `tuning` uses.

    Raises:
        RuntimeError: naming what is gone or has changed.
    """
    cache, keepalive = vars(_ObjectCache()), KEEPALIVE.removeprefix("RAY_")
    intact = {
        **{name: name in TUNE_ENV_VARS for name in SWITCHES},
        IN_JOB: IN_JOB == RAY_JOB_CONFIG_JSON_ENV_VAR,
        KEEPALIVE: hasattr(ray._config, keepalive),
        "GlobalState.get_draining_nodes": _parameters(GlobalState, "get_draining_nodes") == [],
        "class_cache.ENV_VARS_TO_PROPAGATE": isinstance(class_cache.ENV_VARS_TO_PROPAGATE, set),
        "class_cache.DEFAULT_ENV_VARS": isinstance(class_cache.DEFAULT_ENV_VARS, dict),
        "tune_controller._ObjectCache": vars(tune_controller).get("_ObjectCache") is _ObjectCache,
        "_ObjectCache._cached_objects": isinstance(cache.get("_cached_objects"), dict),
        "_ObjectCache._num_cached_objects": cache.get("_num_cached_objects") == 0,
        "_ObjectCache.cache_object": _parameters(_ObjectCache, "cache_object") == ["key", "obj"],
        "_ObjectCache.flush_cached_objects": (
            _parameters(_ObjectCache, "flush_cached_objects") == ["force_all"]
        ),
        "usage.tag_callbacks": callable(vars(usage).get("tag_callbacks")),
        "TuneController._maybe_reuse_cached_actor": (
            _parameters(TuneController, "_maybe_reuse_cached_actor") == ["trial"]
        ),
        "RayActorManager.is_actor_started": (
            _parameters(RayActorManager, "is_actor_started") == ["tracked_actor"]
        ),
        "Trial.temporary_state.ray_actor": hasattr(
            Trial("", stub=True).temporary_state, "ray_actor"
        ),
        "_raylet.setproctitle": callable(vars(ray._raylet).get("setproctitle")),
        "Trial.error_file": hasattr(Trial, "error_file"),
        "Trial.should_recover": _parameters(Trial, "should_recover") == [],
    }
    for name, same in intact.items():
        if not same:
            raise RuntimeError(f"ray {ray.__version__}: {name} is gone or has changed")


def _parameters(owner: type, method: str) -> list[str] | None:
    """The names of a method's parameters; None if there is no such method."""
    function = getattr(owner, method, None)
    return None if function is None else list(signature(function).parameters)[1:]
