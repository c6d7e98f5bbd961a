"""Votes as Ray tasks: for many images at once, and for each as many as it asks for.

An image's votes do not depend on which tasks they share, nor on who counts them, nor on how often.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Generic, NamedTuple, TypeVar

import ray
import torch
from torch import Tensor, nn

from trainables.smoothing.certify import Request
from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import BLOCK_SIZE, Noise, plan_blocks
from tuning.cluster.hosts import in_flight, workers
from tuning.cluster.resources import Resources
from tuning.monitoring.metrics import votes_counted
from tuning.votes.store import Counts, VoteKey, VoteStore

# Draws that are counted, and recorded, together at most, by the kind of device: a GPU counts two
# hundred thousand votes a second, and one driver records three thousand counts.
PIECES = {"cpu": 10 * BLOCK_SIZE, "cuda": 100 * BLOCK_SIZE}
# A task is to last about so long: long against the cost of a task, short against that of its loss.
TASK_SECONDS = 1.0
# What one driver hands out and takes in with about a third of a core.
TASKS_A_SECOND = 100
# Votes of a model's first task, before it is known how long they take.
FIRST_VOTES = BLOCK_SIZE
# A worker keeps the models of a setting: its variants take turns.
MODELS_HELD = 4

T = TypeVar("T")
Asking = Generator[Request, list[int], T]
Reference = ray.ObjectRef[list[Counts]]


@dataclass(frozen=True)
class VoteJob(Generic[T]):
    """Votes wanted of one model on several images: `images` are [n, C, H, W] by `indices`.

    `name` is for people: the setting, and what the model is there. For each image `ask` starts a
    conversation that asks for votes per class and ends with a result. An image takes `most` votes
    at most.
    """

    name: str
    model: nn.Module
    model_hash: str
    images: Tensor
    indices: Sequence[int]
    noise: Noise
    seed: int
    ask: Callable[[], Asking[T]]
    most: int


class Answer(NamedTuple, Generic[T]):
    """The result for one image, and the seconds its votes took."""

    result: T
    seconds: float


def collect_votes(
    jobs: Sequence[VoteJob[T]],
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None] = lambda votes: None,
) -> list[list[Answer[T]]]:
    """The answers for every image of every job; what is not in the store is counted by Ray tasks.

    `advance` is called with numbers of votes, which add up to `most` for each image.
    """
    collector = _Collector(jobs, store, resources, advance)
    collector.run()
    return [
        [collector.answers[number, position] for position in range(len(job.indices))]
        for number, job in enumerate(jobs)
    ]


def task_votes(speed: float, workers: int, waiting: int) -> float:
    """How many votes to put into a task, of a model that casts `speed` votes a second.

    More workers than can be served every second get longer tasks, unless the `waiting` votes
    would then not be enough for all of them.
    """
    return max(speed * TASK_SECONDS, min(_longest(speed, workers), waiting / workers))


def _longest(speed: float, workers: int) -> float:
    return speed * max(TASK_SECONDS, workers / TASKS_A_SECOND)


@dataclass
class _Conversation(Generic[T]):
    """One image's: what it asked for last, as far as it is there.

    `place` are the numbers of its job and of its image there. It asks for votes in pieces of at
    most `piece`.
    """

    job: VoteJob[T]
    place: tuple[int, int]
    asking: Asking[T]
    piece: int
    missing: set[VoteKey] = field(default_factory=set)
    counts: list[int] | None = None
    votes: int = 0
    seconds: float = 0.0

    @property
    def image(self) -> Tensor:
        return self.job.images[self.place[1]]

    def ask(self) -> list[VoteKey] | Answer[T]:
        """Pass the votes on, and say what is wanted next, or what came of it."""
        counts, self.counts = self.counts, None
        try:
            # A generator hears nothing before it has asked.
            request = next(self.asking) if counts is None else self.asking.send(counts)
        except StopIteration as done:
            return Answer(done.value, self.seconds)
        job, image = self.job, self.job.indices[self.place[1]]
        keys = [
            VoteKey(
                *(job.model_hash, request.phase, image, *job.noise, job.seed),
                start,
                min(start + self.piece, request.stop),
            )
            for start in range(request.start, request.stop, self.piece)
        ]
        self.missing = set(keys)
        return keys

    def hear(self, key: VoteKey, found: Counts) -> None:
        self.missing.discard(key)
        before = self.counts or [0] * len(found.votes)
        self.counts = [a + b for a, b in zip(before, found.votes, strict=True)]
        self.votes += key.stop - key.start
        self.seconds += found.seconds


class _Task(NamedTuple):
    """What a task counts, and for whom."""

    name: str
    keys: list[VoteKey]


class _Collector(Generic[T]):
    """Keeps the workers busy with what the conversations ask for.

    Only so many conversations are open as that takes, and their votes alone are in memory.
    """

    def __init__(
        self,
        jobs: Sequence[VoteJob[T]],
        store: VoteStore,
        resources: Resources,
        advance: Callable[[int], None],
    ) -> None:
        self.store, self.resources, self.advance = store, resources, advance
        self.unopened = (
            _Conversation(job, (number, position), job.ask(), PIECES[resources.device])
            for number, job in enumerate(jobs)
            for position in range(len(job.indices))
        )
        self.answers: dict[tuple[int, int], Answer[T]] = {}
        self.queue: deque[tuple[VoteKey, _Conversation[T]]] = deque()
        self.queued_votes = 0
        # Two variants can be the same model: its votes are counted once, and serve both.
        self.waiting: dict[VoteKey, list[_Conversation[T]]] = {}
        self.running: dict[Reference, _Task] = {}
        self.models: dict[str, ray.ObjectRef[nn.Module]] = {}
        self.speeds: dict[str, float] = {}

    def run(self) -> None:
        """Count until every conversation has its answer."""
        while self._open() or self.running:
            while self._open() and len(self.running) < in_flight(self.resources):
                self._submit()
            self._receive()

    def _open(self) -> bool:
        """Open conversations until all workers can have a task; whether anything is to do."""
        speed, count = max(self.speeds.values(), default=FIRST_VOTES), workers(self.resources)
        while self.queued_votes < _longest(speed, count) * count:
            conversation = next(self.unopened, None)
            if conversation is None:
                break
            self._go_on(conversation)
        return bool(self.queue)

    def _go_on(self, conversation: _Conversation[T]) -> None:
        """Give a conversation what is known, until it has to wait or is over."""
        while not conversation.missing:
            asked = conversation.ask()
            if isinstance(asked, Answer):
                self.answers[conversation.place] = asked
                if spared := conversation.job.most - conversation.votes:
                    self.advance(spared)
                return
            known = self.store.find(asked)
            for key in asked:
                if key in known:
                    self._tell(conversation, key, known[key])
                elif key in self.waiting:
                    self.waiting[key].append(conversation)
                else:
                    self.waiting[key] = [conversation]
                    self.queue.append((key, conversation))
                    self.queued_votes += key.stop - key.start

    def _tell(self, conversation: _Conversation[T], key: VoteKey, counts: Counts) -> None:
        conversation.hear(key, counts)
        self.advance(key.stop - key.start)

    def _submit(self) -> None:
        """Start a task of what is first in the queue, with more of the same model."""
        job = self.queue[0][1].job
        speed = self.speeds.get(job.model_hash, FIRST_VOTES)
        wanted = task_votes(speed, workers(self.resources), self.queued_votes)
        keys: list[VoteKey] = []
        images: list[Tensor] = []
        copies: dict[int, Tensor] = {}
        votes = 0
        while (
            self.queue and self.queue[0][0].model == job.model_hash and (not keys or votes < wanted)
        ):
            key, conversation = self.queue.popleft()
            keys.append(key)
            if key.image not in copies:
                # A part of a tensor travels with the whole of it.
                copies[key.image] = conversation.image.clone()
            images.append(copies[key.image])
            votes += key.stop - key.start
        self.queued_votes -= votes
        if job.model_hash not in self.models:
            self.models[job.model_hash] = ray.put(job.model)
        task = _count.options(
            name=f"votes: {job.name}",
            num_cpus=self.resources.cpus_per_trial,
            num_gpus=self.resources.gpus_per_trial,
        )
        reference = task.remote([self.models[job.model_hash]], images, keys, self.resources)
        self.running[reference] = _Task(job.name, keys)

    def _receive(self) -> None:
        (ready,), _ = ray.wait(list(self.running), num_returns=1)
        name, keys = self.running.pop(ready)
        found = dict(zip(keys, ray.get(ready), strict=True))
        self.store.put(found)
        votes = sum(key.stop - key.start for key in keys)
        seconds = sum(counts.seconds for counts in found.values())
        self.speeds[keys[0].model] = votes / max(seconds, 1e-6)
        votes_counted(name, votes, seconds * self.resources.devices_per_trial)
        heard = [(key, conversation) for key in keys for conversation in self.waiting.pop(key)]
        for key, conversation in heard:
            self._tell(conversation, key, found[key])
        for conversation in {one.place: one for _, one in heard}.values():
            self._go_on(conversation)


@ray.remote(max_retries=3)
def _count(
    model: list[ray.ObjectRef[nn.Module]],
    images: Sequence[Tensor],
    keys: Sequence[VoteKey],
    resources: Resources,
) -> list[Counts]:
    device = resources.prepare_worker()
    # In a list, so that Ray does not read it anew for every task.
    held = _held(model[0], device)
    started = time.perf_counter()
    pieces = [
        Piece(
            image.to(device),
            Noise(key.sigma, key.pixel_steps),
            # The noise is keyed without the model: every variant sees the same draws.
            plan_blocks(key.stop, key.seed, key.phase, key.image, key.sigma, start=key.start),
        )
        for image, key in zip(images, keys, strict=True)
    ]
    votes = count_votes(held, pieces).tolist()
    each = (time.perf_counter() - started) / sum(key.stop - key.start for key in keys)
    node = ray.util.get_node_ip_address()
    return [
        Counts(of_piece, each * (key.stop - key.start), node)
        for of_piece, key in zip(votes, keys, strict=True)
    ]


@lru_cache(maxsize=MODELS_HELD)
def _held(model: ray.ObjectRef[nn.Module], device: torch.device) -> nn.Module:
    """The model as this worker keeps it from task to task."""
    found: nn.Module = ray.get(model)
    return found.to(device).eval()
