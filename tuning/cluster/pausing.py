"""How workers learn that they should save their work: the run ends, or their host is to go away.

A question that Ray's head does not answer, because a network fails, is asked again later.
"""

from __future__ import annotations

import contextlib
import time
from functools import lru_cache

import ray
from ray.experimental.internal_kv import _internal_kv_exists, _internal_kv_put

# How often a worker asks. Ray's head answers thousands of such questions a second.
ASK_SECONDS = 1.0
# How soon the driver notices that it was asked to end.
POLL_SECONDS = 1.0
NAMESPACE = "decrop"


class PauseRequests:
    """Called by a worker between two epochs: whether to save the training and to stop."""

    def __init__(self) -> None:
        self._due, self._asked = 0.0, False

    def __call__(self) -> bool:
        """Ask the cluster, if the last time was a while ago."""
        if time.monotonic() >= self._due:
            self._asked = _driver_ends() or ray.get_runtime_context().get_node_id() in draining()
            self._due = time.monotonic() + ASK_SECONDS
        return self._asked


def draining() -> set[str]:
    """The ids of the hosts that are to leave the cluster, as a spot instance is."""
    with contextlib.suppress(Exception):
        return set(ray._private.state.state.get_draining_nodes())
    return set()


def leaving() -> bool:
    """Whether any host is to leave; up to a second late."""
    return bool(_draining_in(int(time.monotonic() / ASK_SECONDS)))


@lru_cache(maxsize=1)
def _draining_in(period: int) -> set[str]:
    return draining()


def pause_workers() -> None:
    """Ask all workers of this run to save their trainings."""
    with contextlib.suppress(Exception):
        _internal_kv_put(_key(), b"", namespace=NAMESPACE)


def _driver_ends() -> bool:
    with contextlib.suppress(Exception):
        return bool(_internal_kv_exists(_key(), namespace=NAMESPACE))
    return False


def _key() -> str:
    return f"ending-{ray.get_runtime_context().get_job_id()}"
