"""Counts of votes on disk, each recorded exactly once.

They are keyed by everything they depend on and upserted, so that a repeated or resumed task cannot
change a certificate.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import NamedTuple


class VoteKey(NamedTuple):
    """All that the counts of one image's draws from `start` to `stop` depend on.

    `phase` names the purpose of the votes.
    """

    model: str
    phase: str
    image: int
    sigma: float
    seed: int
    start: int
    stop: int


class Counts(NamedTuple):
    """Votes per class, and the seconds it took to count them."""

    votes: list[int]
    seconds: float


class VoteStore:
    """Counts in an SQLite file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(self._connect()) as db, db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS counts (model TEXT, phase TEXT, image INTEGER, "
                "sigma REAL, seed INTEGER, start INTEGER, stop INTEGER, votes TEXT, seconds REAL, "
                "PRIMARY KEY (model, phase, image, sigma, seed, start, stop))"
            )

    def put(self, counts: Mapping[VoteKey, Counts]) -> None:
        """Record `counts`, all or none of them, in place of any that are there."""
        rows = [(*key, json.dumps(c.votes), c.seconds) for key, c in counts.items()]
        with closing(self._connect()) as db, db:
            db.executemany("INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def all(self) -> dict[VoteKey, Counts]:
        """Everything recorded so far."""
        with closing(self._connect()) as db:
            rows = db.execute("SELECT * FROM counts").fetchall()
        return {VoteKey(*row[:7]): Counts(json.loads(row[7]), row[8]) for row in rows}

    def votes_by_phase(self) -> dict[str, int]:
        """Votes recorded for each purpose: what a black box was asked beside its training."""
        with closing(self._connect()) as db:
            query = "SELECT phase, SUM(stop - start) FROM counts GROUP BY phase"
            return dict(db.execute(query).fetchall())

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self._path, timeout=30)
