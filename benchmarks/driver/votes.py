"""Certification by tasks that count nothing, and say that they took a second."""

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import ray
import torch
from torch import Tensor, nn

from benchmarks.driver.cluster import cluster_of
from benchmarks.driver.costs import Cost, Shares, memory, since, spent
from tests.support.counts import count_votes
from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from tuning.cluster.resources import Resources
from tuning.votes.collector import PIECES
from tuning.votes.job import VoteJob
from tuning.votes.store import Counts, VoteKey, VoteStore
from tuning.votes.task import Model, Reference, Send

PARTS = ("submission", "database")
# The speed that tasks report, which count nothing.
VOTES_PER_SECOND = 10_000
N, SIGMA, CLASSES = 10_000, 0.25, 10
IMAGES = 2000
# A few are enough to serve the queue of many, since they count nothing.
REAL_WORKERS = 2


@ray.remote(max_retries=3)
def count_nothing(
    model: list[Model], images: Sequence[Tensor], keys: Sequence[VoteKey], resources: Resources
) -> list[Counts]:
    """In place of the task that counts votes."""
    return [
        Counts([key.size] + [0] * (CLASSES - 1), key.size / VOTES_PER_SECOND, "10.0.0.1")
        for key in keys
    ]


def send_nothing(
    name: str, model: Model, images: Sequence[Tensor], keys: Sequence[VoteKey], resources: Resources
) -> Reference:
    """As `send_task`, to the task that counts nothing."""
    task = count_nothing.options(name=name, num_cpus=resources.cpus_per_trial)
    return task.remote([model], images, keys, resources)


def certify(images: int, n: int, workers: int, store: VoteStore, send: Send = send_nothing) -> None:
    """Certify images of CIFAR-10's shape, with one vote task in flight for each of `workers`."""
    # All are views of one image, so that the images take no memory here.
    pixels = torch.rand((1, 3, 32, 32)).expand(images, -1, -1, -1)
    evaluate = partial(certifying, Fixed(100, n, 0.001), SIGMA)
    job = VoteJob(
        "x", nn.Identity(), "hash", pixels, range(images), Noise(SIGMA), 0, evaluate, 100 + n
    )
    count_votes([job], store, Resources(1, 0.0, workers), send=send)


@contextlib.contextmanager
def counting() -> Iterator[VoteStore]:
    """Start a Ray, wait for its processes, and open a store of votes."""
    with tempfile.TemporaryDirectory() as folder, cluster_of(REAL_WORKERS):
        ray.get(count_nothing.remote([], [], [], Resources(1, 0.0, REAL_WORKERS)))
        yield VoteStore(Path(folder, "votes.db"))


def charged() -> Shares:
    """Time the parts of the driver while votes are counted; the rest is evaluations and Ray."""
    shares = Shares()
    shares.charge("database", VoteStore, "put")
    return shares


def cost_of_tasks(workers: int, shares: Shares) -> Cost:
    """Tasks and rows a second, and the CPU milliseconds that a task takes the driver."""
    with counting() as store:
        shares.calls.clear()
        before, started = shares.seconds | spent(), time.perf_counter()
        certify(IMAGES, N, workers, store, shares.timed("submission", send_nothing))
        seconds, cost = time.perf_counter() - started, since(before, shares.seconds | spent())
    tasks, rows = shares.calls["submission"], rows_of(IMAGES, N)
    return {
        "tasks": tasks,
        "tasks / s": tasks / seconds,
        "rows / s": rows / seconds,
        **{part: 1000 * each / tasks for part, each in cost.items()},
    }


def rows_of(images: int, n: int) -> int:
    """The number of counts recorded: one of the selection, and one of each piece, per image."""
    return images * (1 + -(-n // PIECES["cpu"]))


def held(images: int, n: int) -> tuple[float, float, float]:
    """MB of the driver before and after, and CPU milliseconds an image if all votes are there."""
    with counting() as store:
        before = memory()
        certify(images, n, REAL_WORKERS, store)
        after, started = memory(), time.process_time()
        certify(images, n, REAL_WORKERS, store)
        return before, after, 1000 * (time.process_time() - started) / images
