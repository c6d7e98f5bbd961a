"""All that is private to Ray and used in `tuning` all the same, each with its reason.

Used here:

- environment variables that Tune reads when a search begins (`SWITCHES`);
- `tune.execution.class_cache.ENV_VARS_TO_PROPAGATE`, the variables that Tune copies to its workers;
- `tune.utils.object_cache._ObjectCache` and its place in `tune.execution.tune_controller`: the
  workers that wait for a trial;
- that an error of Ray which ends a whole search is the cause of a RuntimeError;
- `Trial.error_file` and how a failure begins in it: a callback is not told the reason;
- `Trial.should_recover`: whether Tune gave a trial up before it had failed as often as it may.

Used in `cluster.connection`, because Ray must find them when it is imported:

- the job configuration that Ray hands to the driver of a submitted job;
- how often Ray's gRPC clients ask whether a connection is still there.

`check_internals` tells whether they are as they were; what cannot be told from names alone is
tested in tests/tuning/search/test_failures.py.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path
from typing import Any

import ray
from ray._private.runtime_env.constants import RAY_JOB_CONFIG_JSON_ENV_VAR
from ray.tune.constants import TUNE_ENV_VARS
from ray.tune.execution import class_cache, tune_controller
from ray.tune.experiment import Trial
from ray.tune.utils.object_cache import _ObjectCache

from tuning.cluster.connection import IN_JOB, KEEPALIVE

SWITCHES = {
    # Who interrupts a run ends it at once, and resumes from the ledger.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # The run folder has tables and TensorBoard of its own.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # The searcher decides how many trials to start, for more hosts may come; and an autoscaler has
    # to hear of those that wait.
    "TUNE_MAX_PENDING_TRIALS_PG": "1000000",
    # The ledger is what a run resumes from: Tune need not keep a record of all trials as well.
    "TUNE_GLOBAL_CHECKPOINT_S": "inf",
}


def configure_tune() -> None:
    """Set up Tune in this process for the searches of the ledgers."""
    os.environ.update(SWITCHES)
    # Tune would copy the bucket's keys to where others see them: command lines, and Ray's logs.
    class_cache.ENV_VARS_TO_PROPAGATE -= {
        name for name in class_cache.ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")
    }


class IdleWorkers(_ObjectCache):
    """Keeps every worker that has nothing to do, until there are no more trials.

    Tune keeps one, and ends the others: after each cohort they would start again, and load PyTorch,
    which takes longer than a small trial. All trials need the same resources, and no more of them
    run at once than workers may be there, so that none is kept that something else could use. One
    that dies meanwhile is noticed when it gets a trial, which the ledger then asks again.
    """

    def cache_object(self, key: Any, obj: Any) -> bool:
        """Keep a worker."""
        self._cached_objects[key].append(obj)
        self._num_cached_objects += 1
        return True

    def flush_cached_objects(self, force_all: bool = False) -> Generator[Any, None, None]:
        """The workers that are to end."""
        if force_all:
            yield from super().flush_cached_objects(force_all=True)


@contextmanager
def idle_workers_kept() -> Iterator[None]:
    """In the searches that this process begins while the block runs."""
    before = vars(tune_controller)["_ObjectCache"]
    vars(tune_controller)["_ObjectCache"] = IdleWorkers
    try:
        yield
    finally:
        vars(tune_controller)["_ObjectCache"] = before


def interruption(error: RuntimeError) -> str:
    """Why Tune ended a search, in one line, if that was an error of Ray; otherwise nothing.

    Tune does not survive that Ray kills workers because a host runs out of memory.
    """
    cause = error.__cause__
    return str(cause).strip().splitlines()[0] if isinstance(cause, ray.exceptions.RayError) else ""


def failure_reason(trial: Trial) -> str:
    """The line that says most of the trial's last failure, from Tune's own record of it."""
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
        "class_cache.ENV_VARS_TO_PROPAGATE": isinstance(class_cache.ENV_VARS_TO_PROPAGATE, set),
        "tune_controller._ObjectCache": vars(tune_controller).get("_ObjectCache") is _ObjectCache,
        "_ObjectCache._cached_objects": isinstance(cache.get("_cached_objects"), dict),
        "_ObjectCache._num_cached_objects": cache.get("_num_cached_objects") == 0,
        "_ObjectCache.cache_object": _parameters(_ObjectCache, "cache_object") == ["key", "obj"],
        "_ObjectCache.flush_cached_objects": (
            _parameters(_ObjectCache, "flush_cached_objects") == ["force_all"]
        ),
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
