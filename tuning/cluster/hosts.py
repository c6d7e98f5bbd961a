"""The hosts of the cluster: what they offer, and which were lost."""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any

import ray

from tuning.cluster.resources import GPU_TYPE, Host, Resources

REFRESH_SECONDS = 5.0
# More tasks than this per worker would only wait in Ray's queue.
QUEUED_PER_WORKER = 3


def workers(resources: Resources) -> int:
    """How many workers to use now: those that fitted at the start, or more on hosts added since."""
    if not resources.shared:
        return resources.concurrency
    if resources.limit is not None:
        return resources.limit
    present = _present_in(int(time.monotonic() / REFRESH_SECONDS))
    return max(resources.concurrency, sum(resources.workers_on(host) for host in present))


def in_flight(resources: Resources) -> int:
    """How many tasks to keep submitted at a time."""
    # On a cluster, more of them could run at once than the user allows.
    limited = resources.shared and resources.limit is not None
    return workers(resources) * (1 if limited else QUEUED_PER_WORKER)


def present_hosts() -> list[Host]:
    """The hosts that are alive."""
    return [_host(node["Resources"], node["Labels"]) for node in ray.nodes() if node["Alive"]]


def lost_hosts() -> dict[str, str]:
    """The hosts that the cluster has lost so far, by id: address and reason."""
    return {
        node["NodeID"]: f"{node['NodeManagerAddress']}: {node.get('DeathReasonMessage', '')}"
        for node in ray.nodes()
        if not node["Alive"]
    }


@lru_cache(maxsize=1)
def _present_in(period: int) -> list[Host]:
    """`present_hosts`, called once in a `period`: with a thousand hosts that takes a while."""
    return present_hosts()


def _host(offered: Any, labels: Any) -> Host:
    cpus, gpus = (int(offered.get(kind, 0)) for kind in ("CPU", "GPU"))
    return Host(cpus, gpus, labels.get(GPU_TYPE, ""))
