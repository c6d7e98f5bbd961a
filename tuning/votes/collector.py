"""Votes as Ray tasks: for many images at once, and as many for each image as it needs.

The votes of an image do not depend on the other votes in the same task, on the worker that counts
them, or on how often they are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple

import ray

from trainables.smoothing.noise import BLOCK_SIZE
from tuning.cluster.ending import ENDING
from tuning.cluster.hosts import in_flight, workers
from tuning.cluster.pausing import first_ready
from tuning.cluster.resources import Resources
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


def collect_votes(
    jobs: Sequence[VoteJob[T]],
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None] = lambda votes: None,
    send: Send = send_task,
) -> list[list[Outcome[T]]]:
    """The outcome for every image of every job; Ray tasks count the votes that are not stored yet.

    `advance` is called with numbers of votes, which add up to `most` for each image; `send` starts
    the tasks.
    """
    collector = _Collector(jobs, store, resources, advance, send)
    collector.run()
    return [
        [collector.outcomes[number, position] for position in range(len(job.indices))]
        for number, job in enumerate(jobs)
    ]


def task_votes(speed: float, workers: int, waiting: int) -> float:
    """How many votes to put into a task, for a model that casts `speed` votes a second.

    If there are more workers than can be served every second, tasks are longer, unless the
    `waiting` votes would then not be enough for all workers.
    """
    return max(speed * TASK_SECONDS, min(_longest(speed, workers), waiting / workers))


def _longest(speed: float, workers: int) -> float:
    return speed * max(TASK_SECONDS, workers / TASKS_A_SECOND)


class _Task(NamedTuple):
    """The pieces that a task counts, and the name of their job."""

    name: str
    keys: list[VoteKey]


class _Collector(Generic[T]):
    """Keeps the workers busy with the votes that images need.

    Images are begun one after another, and only as many as that takes: only the votes of images
    that have begun and not ended are in memory.
    """

    def __init__(
        self,
        jobs: Sequence[VoteJob[T]],
        store: VoteStore,
        resources: Resources,
        advance: Callable[[int], None],
        send: Send,
    ) -> None:
        self.store, self.resources, self.advance, self.send = store, resources, advance, send
        self.not_begun = (
            ImageVotes(job, (number, position), job.evaluate(), PIECES[resources.device])
            for number, job in enumerate(jobs)
            for position in range(len(job.indices))
        )
        self.outcomes: dict[tuple[int, int], Outcome[T]] = {}
        self.queue: deque[tuple[VoteKey, ImageVotes[T]]] = deque()
        self.queued_votes = 0
        # Two variants can be the same model: its votes are counted once and used for both.
        self.waiting: dict[VoteKey, list[ImageVotes[T]]] = {}
        self.running: dict[Reference, _Task] = {}
        self.models: dict[str, Model] = {}
        self.speeds: dict[str, float] = {}

    def run(self) -> None:
        """Count until every image has its outcome, or record what is running if asked to end."""
        with ENDING.graceful():
            while not ENDING.asked and (self._fill_queue() or self.running):
                while self._fill_queue() and len(self.running) < in_flight(self.resources):
                    self._submit()
                self._receive()
            while self.running and not ENDING.overdue:
                self._receive()

    def _fill_queue(self) -> bool:
        """Begin images until there is work for every worker; returns whether there is any."""
        speed, count = max(self.speeds.values(), default=FIRST_VOTES), workers(self.resources)
        while self.queued_votes < _longest(speed, count) * count:
            image = next(self.not_begun, None)
            if image is None:
                break
            self._evaluate(image)
        return bool(self.queue)

    def _evaluate(self, image: ImageVotes[T]) -> None:
        """Evaluate an image as far as its votes are known, and queue the votes it needs next."""
        while not image.missing:
            needed = image.advance()
            if isinstance(needed, Outcome):
                self.outcomes[image.place] = needed
                if spared := image.job.most - image.votes:
                    self.advance(spared)
                return
            known = self.store.find(needed)
            for key in needed:
                if key in known:
                    self._add(image, key, known[key])
                elif key in self.waiting:
                    self.waiting[key].append(image)
                else:
                    self.waiting[key] = [image]
                    self.queue.append((key, image))
                    self.queued_votes += key.size

    def _add(self, image: ImageVotes[T], key: VoteKey, counts: Counts) -> None:
        image.add(key, counts)
        self.advance(key.size)

    def _submit(self) -> None:
        """Start a task with the first pieces in the queue, all of the same model."""
        job = self.queue[0][1].job
        pieces = self._take_from_queue(job.model_hash)
        images = {key.image: image for key, image in pieces}
        # Pickling a view would send its whole storage.
        pixels = {index: image.pixels.clone() for index, image in images.items()}
        if job.model_hash not in self.models:
            self.models[job.model_hash] = ray.put(job.model)
        keys = [key for key, _ in pieces]
        reference = self.send(
            f"votes: {job.name}",
            self.models[job.model_hash],
            [pixels[key.image] for key in keys],
            keys,
            self.resources,
        )
        self.running[reference] = _Task(job.name, keys)

    def _take_from_queue(self, model: str) -> list[tuple[VoteKey, ImageVotes[T]]]:
        """The first pieces of `model` in the queue, as many as make a task."""
        speed = self.speeds.get(model, FIRST_VOTES)
        wanted = task_votes(speed, workers(self.resources), self.queued_votes)
        taken: list[tuple[VoteKey, ImageVotes[T]]] = []
        votes = 0
        while self.queue and self.queue[0][0].model == model and (not taken or votes < wanted):
            taken.append(self.queue.popleft())
            votes += taken[-1][0].size
        self.queued_votes -= votes
        return taken

    def _receive(self) -> None:
        """Record the counts of the first task that ends, and continue with their images."""
        ready = first_ready(list(self.running))
        if ready is None:
            return
        name, keys = self.running.pop(ready)
        counts: list[Counts] = ray.get(ready)
        found = dict(zip(keys, counts, strict=True))
        self.store.put(found)
        votes = sum(key.size for key in keys)
        seconds = sum(each.seconds for each in counts)
        self.speeds[keys[0].model] = votes / max(seconds, 1e-6)
        votes_counted(name, votes, seconds * self.resources.devices_per_trial)
        served = [(key, image) for key in keys for image in self.waiting.pop(key)]
        for key, image in served:
            self._add(image, key, found[key])
        for image in {image.place: image for _, image in served}.values():
            self._evaluate(image)
