"""What a store of votes holds."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from tuning.votes.store import Counts, VoteKey


def recorded(path: Path) -> dict[VoteKey, Counts]:
    """Everything in a `votes.db`."""
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT * FROM counts").fetchall()
    return {
        VoteKey(*key): Counts(json.loads(votes), seconds, node)
        for *key, votes, seconds, node in rows
    }
