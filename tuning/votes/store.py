"""Counts of votes on disk, each recorded exactly once.

They are keyed by everything they depend on and upserted, so that a task that is repeated or resumed
cannot change a certificate.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from results.recorded import COLUMNS, FORMAT_WITHOUT_CHECKSUMS, KEY, VOTES_FORMAT, checksum
from trainables.errors import InputError
from tuning.errors import ConfigError

_KEY = ", ".join(KEY)


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
    """Counts in an SQLite file, each with a checksum; those of the previous version get theirs.

    Raises:
        ConfigError: when a different version of this program wrote it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with closing(self._connect()) as db, db:
            self._check_version(db)
            self._add_checksums(db)
            db.execute(
                "CREATE TABLE IF NOT EXISTS counts (model TEXT, phase TEXT, image INTEGER, "
                "sigma REAL, pixel_steps INTEGER, seed INTEGER, start INTEGER, stop INTEGER, "
                f"votes TEXT, seconds REAL, node TEXT, checksum TEXT, PRIMARY KEY ({_KEY}))"
            )
            db.execute(f"PRAGMA user_version = {VOTES_FORMAT}")

    def put(self, counts: Mapping[VoteKey, Counts]) -> None:
        """Record `counts`, all or none of them, replacing existing ones.

        Raises:
            InputError: when they cannot be the votes of so many draws.
        """
        rows = [_row(key, each) for key, each in counts.items()]
        with closing(self._connect()) as db, db:
            places = ", ".join("?" * len(COLUMNS))
            db.executemany(f"INSERT OR REPLACE INTO counts VALUES ({places})", rows)

    def find(self, keys: Sequence[VoteKey]) -> dict[VoteKey, Counts]:
        """The recorded counts of `keys`, which differ only in their draws.

        Raises:
            InputError: when they are not as they were recorded.
        """
        *shared, _, _ = keys[0]
        query = (
            "SELECT start, stop, votes, seconds, node, checksum FROM counts "
            "WHERE model = ? AND phase = ? AND image = ? AND sigma = ? AND pixel_steps = ? "
            "AND seed = ? AND start BETWEEN ? AND ?"
        )
        with closing(self._connect()) as db:
            rows = db.execute(query, (*shared, keys[0].start, keys[-1].start)).fetchall()
        found = {(start, stop): rest for start, stop, *rest in rows}
        return {
            k: self._checked(k, *found[k.start, k.stop]) for k in keys if (k.start, k.stop) in found
        }

    def votes_by_phase(self) -> dict[str, int]:
        """Votes recorded for each purpose."""
        with closing(self._connect()) as db:
            query = "SELECT phase, SUM(stop - start) FROM counts GROUP BY phase"
            return dict(db.execute(query).fetchall())

    def _checked(self, key: VoteKey, votes: str, seconds: float, node: str, found: str) -> Counts:
        with suppress(RecursionError, TypeError, ValueError):  # what is no JSON
            if found == checksum(key, votes) and _possible(counted := json.loads(votes), key.size):
                return Counts(counted, seconds, node)
        raise InputError(
            f"{self.path}: the votes of image {key.image} from draw {key.start} to {key.stop} "
            "have changed since they were counted; delete that file to have all of them counted "
            "again"
        )

    def _check_version(self, db: sqlite3.Connection) -> None:
        (tables,) = db.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if tables and found not in (FORMAT_WITHOUT_CHECKSUMS, VOTES_FORMAT):
            raise ConfigError(
                f"--out: {self.path} holds votes in format {found}, but this version uses format "
                f"{VOTES_FORMAT}; delete that file to have them counted again"
            )

    def _add_checksums(self, db: sqlite3.Connection) -> None:
        """Give those of the previous version theirs, which are of what is there now."""
        # All or nothing: Python begins no transaction for a change of the columns.
        db.execute("BEGIN IMMEDIATE")
        (found,) = db.execute("PRAGMA user_version").fetchone()
        if found == FORMAT_WITHOUT_CHECKSUMS:
            db.create_function("checksum", len(KEY) + 1, lambda *row: checksum(row[:-1], row[-1]))
            db.execute("ALTER TABLE counts ADD COLUMN checksum TEXT")
            db.execute(f"UPDATE counts SET checksum = checksum({_KEY}, votes)")

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=30)


def _row(key: VoteKey, counts: Counts) -> tuple[object, ...]:
    votes = json.dumps(counts.votes)
    if not _possible(counts.votes, key.size):
        raise InputError(f"a worker on {counts.node} counted {votes} votes in {key.size} draws")
    return (*key, votes, counts.seconds, counts.node, checksum(key, votes))


def _possible(votes: object, draws: int) -> bool:
    """Whether `votes` can be how many of so many draws were for each class; the rest abstained."""
    if not (type(votes) is list and votes and {*map(type, votes)} == {int}):
        return False
    return min(votes) >= 0 and sum(votes) <= draws
