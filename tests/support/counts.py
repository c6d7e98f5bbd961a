"""Votes that are counted for a test or a benchmark, and what a store of votes holds."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.votes.collector import Collector
from tuning.votes.job import Outcome, VoteJob
from tuning.votes.store import Counts, VoteKey, VoteStore
from tuning.votes.task import Send, send_task


def count_votes(
    jobs: Sequence[VoteJob[Any]],
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None] = lambda votes: None,
    send: Send = send_task,
) -> list[list[Outcome[Any]]]:
    """The outcomes of jobs that are counted side by side."""
    with closing(TaskPool(resources)) as pool:
        collector = Collector(store, pool, send)

        async def counted() -> list[list[Outcome[Any]]]:
            urgency = Urgency.CERTIFICATION_VOTES
            return await asyncio.gather(*(collector.count(job, urgency, advance) for job in jobs))

        return pool.run(counted())


def recorded(path: Path) -> dict[VoteKey, Counts]:
    """Everything in a `votes.db`."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT * FROM counts").fetchall()
    return {
        VoteKey(*key): Counts(json.loads(votes), seconds, node)
        for *key, votes, seconds, node, _ in rows
    }
