"""Votes as Ray tasks, each image's counts recorded exactly once.

Counts are keyed by everything they depend on and upserted, so a repeated or resumed task cannot
change a certificate.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import ray
import torch
from torch import Tensor, nn

from trainables.smoothing.certify import total_votes
from trainables.smoothing.noise import plan_blocks
from tuning.cluster import Resources

# More tasks than this per worker would only wait in Ray's queue.
QUEUED_PER_WORKER = 3


Reference = ray.ObjectRef[tuple[list[int], float]]


class VoteKey(NamedTuple):
    """All that one image's counts depend on; `phase` names the purpose of the votes."""

    model: str
    phase: str
    image: int
    sigma: float
    votes: int
    seed: int


class Counts(NamedTuple):
    """Votes per class, and the seconds it took to count them."""

    votes: list[int]
    seconds: float


@dataclass(frozen=True)
class VoteJob:
    """Votes wanted of one model on several images: `images` are [n, C, H, W] by `indices`."""

    model: nn.Module
    model_hash: str
    phase: str
    images: Tensor
    indices: Sequence[int]
    sigma: float
    votes: int
    seed: int

    def vote_keys(self) -> list[VoteKey]:
        """One key per image, in order."""
        return [
            VoteKey(self.model_hash, self.phase, index, self.sigma, self.votes, self.seed)
            for index in self.indices
        ]


class VoteStore:
    """Counts on disk, in an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS votes (model TEXT, phase TEXT, image INTEGER, "
                "sigma REAL, votes INTEGER, seed INTEGER, counts TEXT, seconds REAL, "
                "PRIMARY KEY (model, phase, image, sigma, votes, seed))"
            )

    def put(self, key: VoteKey, counts: Counts) -> None:
        """Record the counts of `key`, in place of any that are there."""
        with closing(self._connect()) as db, db:
            db.execute(
                "INSERT OR REPLACE INTO votes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (*key, json.dumps(counts.votes), counts.seconds),
            )

    def all(self) -> dict[VoteKey, Counts]:
        """Everything recorded so far."""
        with closing(self._connect()) as db:
            rows = db.execute("SELECT * FROM votes").fetchall()
        return {VoteKey(*row[:6]): Counts(json.loads(row[6]), row[7]) for row in rows}

    def votes_by_phase(self) -> dict[str, int]:
        """Votes recorded for each purpose: what a black box was asked beside its training."""
        with closing(self._connect()) as db:
            rows = db.execute("SELECT phase, SUM(votes) FROM votes GROUP BY phase").fetchall()
        return dict(rows)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)


def collect_votes(
    jobs: Sequence[VoteJob],
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None] = lambda votes: None,
) -> dict[VoteKey, Counts]:
    """Counts for every image of every job, counted by Ray tasks where they are not in the store.

    `advance` is called with the number of votes that each finished image adds.
    """
    known = store.all()
    # Two variants can be the same model: its votes are counted once, and serve both.
    wanted = Counter(key for job in jobs for key in job.vote_keys())

    def arrived(key: VoteKey) -> None:
        advance(key.votes * wanted[key])

    for key in wanted.keys() & known.keys():
        arrived(key)
    pending: dict[Reference, VoteKey] = {}
    for reference, key in _submissions(jobs, known.keys(), resources):
        pending[reference] = key
        while len(pending) >= QUEUED_PER_WORKER * resources.concurrency:
            _receive(pending, known, store, arrived)
    while pending:
        _receive(pending, known, store, arrived)
    return {key: known[key] for key in wanted}


def _submissions(
    jobs: Sequence[VoteJob], known: Iterable[VoteKey], resources: Resources
) -> Iterator[tuple[Reference, VoteKey]]:
    task = _count_image.options(
        num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial
    )
    done = set(known)
    for job in jobs:
        missing = [
            (key, image)
            for key, image in zip(job.vote_keys(), job.images, strict=True)
            if key not in done
        ]
        done |= {key for key, _ in missing}
        if not missing:
            continue
        model = ray.put(job.model)
        for key, image in missing:
            yield task.remote(model, image, key, resources), key


def _receive(
    pending: dict[Reference, VoteKey],
    known: dict[VoteKey, Counts],
    store: VoteStore,
    arrived: Callable[[VoteKey], None],
) -> None:
    (ready,), _ = ray.wait(list(pending), num_returns=1)
    key = pending.pop(ready)
    known[key] = Counts(*ray.get(ready))
    store.put(key, known[key])
    arrived(key)


@ray.remote(max_retries=3)
def _count_image(
    model: nn.Module, image: Tensor, key: VoteKey, resources: Resources
) -> tuple[list[int], float]:
    # A fixed number of threads: sums in another order would change the last bits.
    torch.set_num_threads(resources.cpus_per_trial)
    started = time.perf_counter()
    device = torch.device(resources.device)
    # The noise is keyed without the model: every variant sees the same draws.
    blocks = plan_blocks(key.votes, key.seed, key.phase, key.image, key.sigma)
    votes = total_votes(model.to(device).eval(), image.to(device), key.sigma, blocks)
    return votes, time.perf_counter() - started
