"""The workers of a run, shared by all stages that have something for them at the same time."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import IntEnum
from itertools import count
from typing import Any, TypeVar

import ray

from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import in_flight, workers
from tuning.cluster.pausing import POLL_SECONDS, pause_workers
from tuning.cluster.resources import Resources

T = TypeVar("T")


class Urgency(IntEnum):
    """What is given to free workers first: that for which people, or most of the rest, wait."""

    MEASUREMENT = 0
    FIRST_TABLE = 1
    CONFIRMATION_TRAINING = 2
    CONFIRMATION_VOTES = 3
    FINAL_TRAINING = 4
    CERTIFICATION_VOTES = 5


class TaskPool:
    """Submits Ray tasks as workers get free, the most urgent first, and equals in their order.

    Short tasks queue in Ray, so that workers need not wait for the next one. Long ones do not: a
    worker takes all queued tasks of one kind before it looks at another, so that votes for which
    people wait would come after many trainings.

    `watch` is called again and again with how many workers are busy, and of how many.

    pool = TaskPool(Resources(cpus_per_trial=1, gpus_per_trial=0.0, concurrency=2))
    trained = pool.result(partial(train.remote, "published"), Urgency.FINAL_TRAINING)
    pool.run(trained)   # what the task `train` returns
    """

    def __init__(
        self, resources: Resources, watch: Callable[[int, int], None] = lambda busy, of: None
    ) -> None:
        self.resources, self._watch = resources, watch
        self._runner = asyncio.Runner()
        self._runner.get_loop().set_exception_handler(_unhandled)
        self._begun: set[asyncio.Task[Any]] = set()
        self._running = 0
        self._waiting: list[tuple[Urgency, int, bool, asyncio.Future[None]]] = []
        self._numbers = count()
        self._spare: Callable[[], int] | None = None
        self._taken: Callable[[], int] = lambda: 0
        self._turned: list[asyncio.Future[None]] = []

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry out `work`; if the run is to end, only as far as it has been submitted.

        Raises:
            KeyboardInterrupt: when the run is to end.
        """
        working = self.begin(work)
        with ENDING.graceful():
            self._runner.run(self._until_ended(working))
        return working.result()

    def begin(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Carry out `work` in the turns of the pool, and during later calls of `run`."""
        task = self._runner.get_loop().create_task(work)
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return task

    @contextmanager
    def beside(
        self, spare: Callable[[], int], taken: Callable[[], int] = lambda: 0
    ) -> Iterator[None]:
        """Let something else have the workers in the block, except so many as `spare` says.

        `taken` says how many of them it is using.
        """
        self._spare, self._taken = spare, taken
        try:
            yield
        finally:
            self._spare, self._taken = None, lambda: 0

    def turn(self) -> None:
        """Let what has begun go on as far as it can without waiting."""
        self._look()
        if self._begun:
            loop = self._runner.get_loop()
            loop.call_soon(loop.stop)
            loop.run_forever()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition` holds; it is looked at in every turn."""
        while not condition():
            turned = asyncio.get_running_loop().create_future()
            self._turned.append(turned)
            await turned

    @property
    def idle(self) -> bool:
        """Whether no task is running."""
        return not self._running

    def close(self) -> None:
        """Give up what has begun and not ended."""
        self._runner.close()

    async def result(self, submit: Callable[[], ray.ObjectRef[T]], urgency: Urgency) -> T:
        """What the long task returns that `submit` starts, once there is a worker for it."""
        await self._admission(urgency, queues=False)
        return await self.outcome(submit)

    async def admission(self, urgency: Urgency) -> None:
        """Wait until a short task may be submitted; await its `outcome` then, or `forgo` it."""
        await self._admission(urgency, queues=True)

    async def _admission(self, urgency: Urgency, queues: bool) -> None:
        admitted = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (urgency, next(self._numbers), queues, admitted))
        self._admit()
        await admitted

    async def outcome(self, submit: Callable[[], ray.ObjectRef[T]]) -> T:
        """What the task returns that `submit` starts, and which was admitted."""
        try:
            found: T = await submit()
            return found
        finally:
            self.forgo()

    def forgo(self) -> None:
        """Leave the place of an admitted task to others."""
        self._running -= 1
        self._admit()

    def _look(self) -> None:
        """Look at everything that may have changed since the last time."""
        self._admit()
        number = workers(self.resources)
        self._watch(min(number, self._taken() + self._running), number)
        turned, self._turned = self._turned, []
        for each in turned:
            if not each.done():
                each.set_result(None)

    def _may_submit(self, queues: bool) -> bool:
        """Whether one more task may be submitted; one that `queues` may wait in Ray's queue."""
        if self._spare is not None:
            return self._running < self._spare()
        return self._running < (in_flight if queues else workers)(self.resources)

    def _admit(self) -> None:
        while self._waiting and not ENDING.asked and self._may_submit(self._waiting[0][2]):
            *_, admitted = heapq.heappop(self._waiting)
            # Whoever waited for it may have been cancelled.
            if not admitted.done():
                admitted.set_result(None)
                self._running += 1

    async def _until_ended(self, working: asyncio.Task[Any]) -> None:
        """Wait for a task; if the run is to end, for what is running, until the grace is over."""
        while not working.done():
            self._look()
            await asyncio.wait([working], timeout=POLL_SECONDS)
            if ENDING.asked and not working.done():
                pause_workers()
                if self.idle or ENDING.overdue:
                    return


def _unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Let errors pass for which nobody waits any more: the one that ended the waiting is told."""
    if not context["message"].endswith("exception was never retrieved"):
        loop.default_exception_handler(context)
