"""Votes as Ray tasks: for many images at once, and as many for each image as it needs.

The votes of an image do not depend on the other votes in the same task, on the worker that counts
them, or on how often they are counted.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, NamedTuple

import ray

from trainables.smoothing.noise import BLOCK_SIZE
from tuning.cluster.hosts import workers
from tuning.cluster.pool import TaskPool, Urgency
from tuning.monitoring.metrics import votes_counted
from tuning.votes.job import ImageVotes, Outcome, T, VoteJob
from tuning.votes.store import Counts, VoteKey, VoteStore
from tuning.votes.task import Model, Reference, Send, send_task

# The most draws that are counted and recorded together, by kind of device: a GPU counts two hundred
# thousand votes a second, and one driver records three thousand counts.
PIECES = {"cpu": 10 * BLOCK_SIZE, "cuda": 100 * BLOCK_SIZE}
# How long a task should take: long compared with its overhead, short enough to lose one.
TASK_SECONDS = 1.0
# The rate at which one driver can submit and receive tasks with about a third of a core.
TASKS_A_SECOND = 100
# Votes in a model's first task, before it is known how long they take.
FIRST_VOTES = BLOCK_SIZE


def task_votes(speed: float, workers: int, waiting: int) -> float:
    """How many votes to put into a task, for a model that casts `speed` votes a second.

    If there are more workers than can be served every second, tasks are longer, unless the
    `waiting` votes would then not be enough for all workers.
    """
    return max(speed * TASK_SECONDS, min(_longest(speed, workers), waiting / workers))


def _longest(speed: float, workers: int) -> float:
    return speed * max(TASK_SECONDS, workers / TASKS_A_SECOND)


@dataclass(order=True)
class _Order:
    """A job whose votes somebody waits for; `images` are those that have not begun."""

    urgency: Urgency
    number: int
    job: VoteJob[Any] = field(compare=False)
    advance: Callable[[int], None] = field(compare=False)
    images: Iterator[_Image] = field(init=False, compare=False)
    outcomes: dict[int, Outcome[Any]] = field(default_factory=dict, compare=False)
    done: asyncio.Future[None] = field(default_factory=asyncio.Future, compare=False)


@dataclass(eq=False)
class _Image:
    """An image of an order, with its votes."""

    order: _Order
    votes: ImageVotes[Any]


class _Piece(NamedTuple):
    """Votes that an image needs; sorted by how urgent they are, and then by `number`."""

    order: _Order
    number: int
    key: VoteKey
    image: _Image


class Collector:
    """Keeps the workers of a pool busy with the votes that images need, and records them.

    Images are begun one after another, those of the most urgent job first, and only as many as that
    takes: only the votes of images that have begun and not ended are in memory. `send` starts the
    tasks.
    """

    def __init__(self, store: VoteStore, pool: TaskPool, send: Send = send_task) -> None:
        self._store, self._pool, self._send = store, pool, send
        self._resources = pool.resources
        self._numbers = count()
        self._orders: list[_Order] = []
        self._queue: list[_Piece] = []
        self._queued_votes = 0
        # Two variants can be the same model: its votes are counted once and used for both.
        self._waiting: dict[VoteKey, list[_Image]] = {}
        # Each model in Ray's object store for as long as a job needs it, and by how many that is.
        self._models: dict[str, Model] = {}
        self._users: Counter[str] = Counter()
        self._speeds: dict[str, float] = {}
        # How urgently workers are asked for, each once at a time.
        self._asked: set[Urgency] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def count(
        self,
        job: VoteJob[T],
        urgency: Urgency,
        advance: Callable[[int], None] = lambda votes: None,
    ) -> list[Outcome[T]]:
        """The outcome for every image; Ray tasks count the votes that are not stored yet.

        `advance` is called with numbers of votes, which add up to `most` for each image.
        """
        if not job.indices:
            return []
        order = _Order(urgency, next(self._numbers), job, advance)
        piece = PIECES[self._resources.device]
        order.images = (
            _Image(order, ImageVotes(job, position, job.evaluate(), piece))
            for position in range(len(job.indices))
        )
        heapq.heappush(self._orders, order)
        self._users[job.model_hash] += 1
        self._ask_for_worker()
        try:
            await order.done
        finally:
            self._users[job.model_hash] -= 1
            if not self._users[job.model_hash]:
                self._models.pop(job.model_hash, None)
        return [order.outcomes[position] for position in range(len(job.indices))]

    def _ask_for_worker(self) -> None:
        """Ask the pool for a worker, if there is something to count that is not asked for yet."""
        self._fill_queue()
        if self._queue and (urgency := self._queue[0].order.urgency) not in self._asked:
            self._asked.add(urgency)
            task = asyncio.create_task(self._count_some(urgency))
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            waiting = (image.order for images in self._waiting.values() for image in images)
            for order in (*waiting, *self._orders):
                if not order.done.done():
                    order.done.set_exception(error)

    async def _count_some(self, urgency: Urgency) -> None:
        """Count the first pieces in the queue, and see to it that the next ones are counted."""
        await self._pool.admission(urgency)
        self._asked.discard(urgency)
        if not self._queue:
            # A worker that was asked for later, but more urgently, has taken them.
            self._pool.forgo()
            return
        pieces = self._take_from_queue()
        self._ask_for_worker()
        counts = await self._pool.outcome(lambda: self._submit(pieces))
        self._record(pieces, counts)
        self._ask_for_worker()

    def _fill_queue(self) -> None:
        """Begin images until there is work for every worker, and what is most urgent has begun."""
        speed, number = max(self._speeds.values(), default=FIRST_VOTES), workers(self._resources)
        while self._queued_votes < _longest(speed, number) * number or self._is_overtaken():
            image = self._next_image()
            if image is None:
                break
            self._evaluate(image)

    def _is_overtaken(self) -> bool:
        """Whether votes are more urgent than all those in the queue."""
        return bool(self._orders and self._orders[0].urgency < self._queue[0].order.urgency)

    def _next_image(self) -> _Image | None:
        while self._orders:
            if image := next(self._orders[0].images, None):
                return image
            heapq.heappop(self._orders)
        return None

    def _evaluate(self, image: _Image) -> None:
        """Evaluate an image as far as its votes are known, and queue the votes it needs next."""
        while not image.votes.missing:
            needed = image.votes.advance()
            if isinstance(needed, Outcome):
                self._finish(image, needed)
                return
            known = self._store.find(needed)
            for key in needed:
                if key in known:
                    self._add(image, key, known[key])
                elif key in self._waiting:
                    self._waiting[key].append(image)
                else:
                    self._waiting[key] = [image]
                    piece = _Piece(image.order, next(self._numbers), key, image)
                    heapq.heappush(self._queue, piece)
                    self._queued_votes += key.size

    def _finish(self, image: _Image, outcome: Outcome[Any]) -> None:
        order = image.order
        order.outcomes[image.votes.position] = outcome
        if spared := order.job.most - image.votes.votes:
            order.advance(spared)
        if len(order.outcomes) == len(order.job.indices):
            order.done.set_result(None)

    def _add(self, image: _Image, key: VoteKey, counts: Counts) -> None:
        image.votes.add(key, counts)
        image.order.advance(key.size)

    def _take_from_queue(self) -> list[_Piece]:
        """The first pieces in the queue, as many as make a task, all of the same model."""
        model = self._queue[0].key.model
        speed = self._speeds.get(model, FIRST_VOTES)
        wanted = task_votes(speed, workers(self._resources), self._queued_votes)
        taken: list[_Piece] = []
        votes = 0
        while self._queue and self._queue[0].key.model == model and (not taken or votes < wanted):
            taken.append(heapq.heappop(self._queue))
            votes += taken[-1].key.size
        self._queued_votes -= votes
        return taken

    def _submit(self, pieces: Sequence[_Piece]) -> Reference:
        """Start a task that counts pieces of one model."""
        job = pieces[0].order.job
        # Pickling a view would send its whole storage.
        pixels = {piece.key.image: piece.image.votes.pixels.clone() for piece in pieces}
        if job.model_hash not in self._models:
            self._models[job.model_hash] = ray.put(job.model)
        keys = [piece.key for piece in pieces]
        return self._send(
            f"votes: {job.name}",
            self._models[job.model_hash],
            [pixels[key.image] for key in keys],
            keys,
            self._resources,
        )

    def _record(self, pieces: Sequence[_Piece], counts: Sequence[Counts]) -> None:
        """Record the counts of a task, and continue with its images."""
        keys, name = [piece.key for piece in pieces], pieces[0].order.job.name
        found = dict(zip(keys, counts, strict=True))
        self._store.put(found)
        votes = sum(key.size for key in keys)
        seconds = sum(each.seconds for each in counts)
        self._speeds[keys[0].model] = votes / max(seconds, 1e-6)
        votes_counted(name, votes, seconds * self._resources.devices_per_trial)
        served = [(key, image) for key in keys for image in self._waiting.pop(key)]
        for key, image in served:
            self._add(image, key, found[key])
        for image in dict.fromkeys(image for _, image in served):
            self._evaluate(image)
