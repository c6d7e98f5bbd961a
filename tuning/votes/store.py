"""Counts of votes on disk, each recorded exactly once.

They are keyed by everything they depend on and upserted, so that a task that is repeated or resumed
cannot change a certificate.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from results.schema import VOTES_FORMAT
from tuning.errors import ConfigError


class VoteKey(NamedTuple):
    """Everything that the counts of one image's draws from `start` to `stop` depend on.

    `phase` names the purpose of the votes. The noise is rounded to multiples of 1 / `pixel_steps`;
    0 stands for Gaussian noise.
    """

    model: str
    phase: str
    image: int
    sigma: float
    pixel_steps: int
    seed: int
    start: int
    stop: int

    @property
    def size(self) -> int:
        """The number of draws."""
        return self.stop - self.start


class Counts(NamedTuple):
    """Votes per class, the seconds it took to count them, and the address of the host that did."""

    votes: list[int]
    seconds: float
    node: str


class VoteStore:
    """Counts in an SQLite file.

    Raises:
        ConfigError: when a different version of this program wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self._connect()) as db, db:
            self._check_version(db)
            db.execute(
                "CREATE TABLE IF NOT EXISTS counts (model TEXT, phase TEXT, image INTEGER, "
                "sigma REAL, pixel_steps INTEGER, seed INTEGER, start INTEGER, stop INTEGER, "
                "votes TEXT, seconds REAL, node TEXT, "
                "PRIMARY KEY (model, phase, image, sigma, pixel_steps, seed, start, stop))"
            )
            db.execute(f"PRAGMA user_version = {VOTES_FORMAT}")

    def put(self, counts: Mapping[VoteKey, Counts]) -> None:
        """Record `counts`, all or none of them, replacing existing ones."""
        rows = [(*key, json.dumps(c.votes), c.seconds, c.node) for key, c in counts.items()]
        with closing(self._connect()) as db, db:
            db.executemany(
                "INSERT OR REPLACE INTO counts VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows
            )

    def find(self, keys: Sequence[VoteKey]) -> dict[VoteKey, Counts]:
        """The recorded counts of `keys`, which differ only in their draws."""
        *shared, _, _ = keys[0]
        query = (
            "SELECT start, stop, votes, seconds, node FROM counts WHERE model = ? AND phase = ? "
            "AND image = ? AND sigma = ? AND pixel_steps = ? AND seed = ? AND start BETWEEN ? AND ?"
        )
        with closing(self._connect()) as db:
            found = db.execute(query, (*shared, keys[0].start, keys[-1].start)).fetchall()
        counts = {
            (start, stop): Counts(json.loads(votes), seconds, node)
            for start, stop, votes, seconds, node in found
        }
        return {k: counts[k.start, k.stop] for k in keys if (k.start, k.stop) in counts}

    def votes_by_phase(self) -> dict[str, int]:
        """Votes recorded for each purpose."""
        with closing(self._connect()) as db:
            query = "SELECT phase, SUM(stop - start) FROM counts GROUP BY phase"
            return dict(db.execute(query).fetchall())

    def _check_version(self, db: sqlite3.Connection) -> None:
        (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if tables and found != VOTES_FORMAT:
            raise ConfigError(
                f"--out: {self.path} holds votes in format {found}, but this version uses format "
                f"{VOTES_FORMAT}; delete that file to have them counted again"
            )

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)
