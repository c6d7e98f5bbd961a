"""Workers of a search that wait for their next trial."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

from ray.tune.execution import tune_controller
from ray.tune.utils.object_cache import _ObjectCache


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
