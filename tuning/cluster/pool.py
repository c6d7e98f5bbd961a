"""The workers of a run, shared by all stages that have something for them at the same time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from enum import IntEnum
from itertools import count
from typing import Any, TypeVar

import ray

from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import in_flight
from tuning.cluster.pausing import POLL_SECONDS, pause_workers
from tuning.cluster.resources import Resources

T = TypeVar("T")


class Urgency(IntEnum):
    """What is given to free workers first: that for which most of the rest waits."""

    MEASUREMENT = 0
    CONFIRMATION_TRAINING = 1
    CONFIRMATION_VOTES = 2
    FINAL_TRAINING = 3
    CERTIFICATION_VOTES = 4


class TaskPool:
    """Submits Ray tasks as workers get free, the most urgent first, and equals in their order.

    pool = TaskPool(Resources(cpus_per_trial=1, gpus_per_trial=0.0, concurrency=2))
    trained = pool.result(partial(train.remote, "published"), Urgency.FINAL_TRAINING)
    pool.run(trained)   # what the task `train` returns
    """

    def __init__(self, resources: Resources) -> None:
        self.resources = resources
        self._running = 0
        self._waiting: list[tuple[Urgency, int, asyncio.Future[None]]] = []
        self._numbers = count()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out `work`; if the run is to end, only as far as it has been submitted.

        Raises:
            KeyboardInterrupt: when the run is to end.
        """
        with ENDING.graceful():
            return asyncio.run(self._until_asked_to_end(work))

    async def result(self, submit: Callable[[], ray.ObjectRef[T]], urgency: Urgency) -> T:
        """What the task returns that `submit` starts, once there is a worker for it."""
        await self.admission(urgency)
        return await self.outcome(submit())

    async def admission(self, urgency: Urgency) -> None:
        """Wait until a task may be submitted; its `outcome` must be awaited."""
        admitted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._numbers), admitted))
        self._admit()
        await admitted

    async def outcome(self, task: ray.ObjectRef[T]) -> T:
        """What a task returns that was admitted."""
        try:
            found: T = await task
            return found
        finally:
            self._running -= 1
            self._admit()

    def _admit(self) -> None:
        while self._waiting and not ENDING.asked and self._running < in_flight(self.resources):
            *_, admitted = heapq.heappop(self._waiting)
            # Whoever waited for it may have been cancelled.
            if not admitted.done():
                admitted.set_result(None)
                self._running += 1

    async def _until_asked_to_end(self, work: Coroutine[Any, Any, T]) -> T:
        working = asyncio.ensure_future(work)
        while not working.done():
            await asyncio.wait([working], timeout=POLL_SECONDS)
            # There may be more workers than before.
            self._admit()
            if ENDING.asked and not working.done():
                pause_workers()
                if not self._running or ENDING.overdue:
                    raise KeyboardInterrupt
        return working.result()
