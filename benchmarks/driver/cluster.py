"""A Ray that pretends to have many cores, beside a driver that has one to itself."""

import contextlib
import os
from collections.abc import Iterator, Sequence

import ray

from tuning.cluster.local_ray import OBJECT_STORE_BYTES


@contextlib.contextmanager
def cluster_of(cores: int) -> Iterator[None]:
    """Start a Ray that pretends to have `cores` cores, and shut it down at the end."""
    own, *others = everywhere = sorted(os.sched_getaffinity(0))
    # Processes of Ray inherit where this thread may run.
    _run_on(others or [own])
    ray.init(
        "local",
        num_cpus=cores,
        object_store_memory=OBJECT_STORE_BYTES,
        include_dashboard=False,
        log_to_driver=False,
    )
    _run_on([own])
    try:
        yield
    finally:
        ray.shutdown()
        _run_on(everywhere)


def _run_on(cores: Sequence[int]) -> None:
    """Let the threads of this process run only on these cores."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)
