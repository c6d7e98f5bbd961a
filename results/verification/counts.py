"""The counts in `votes.db`: votes for each class, by the draws that they are of."""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from results.recorded import COLUMNS, FORMAT_WITHOUT_CHECKSUMS, KEY, VOTES_FORMAT, checksum


class Stream(NamedTuple):
    """What the draws of one image in one phase depend on: the first columns of the table."""

    model: str
    phase: str
    image: int
    sigma: float
    pixel_steps: int
    seed: int


class Piece(NamedTuple):
    """Votes for each class of the draws from `start` to `stop`."""

    start: int
    stop: int
    votes: list[int]


@dataclass(frozen=True)
class Counted:
    """The votes of a stream's first draws, up to the first that was not counted.

    `totals` holds the votes for each class of the first n draws, for every n where a piece ends.

        counted.draws               # how many were counted
        counted.totals[100]         # the votes of the first 100
        counted.between(100, 1000)  # of those that follow
    """

    totals: Mapping[int, list[int]]

    @property
    def draws(self) -> int:
        """The number of draws."""
        return max(self.totals)

    def between(self, start: int, stop: int) -> list[int]:
        """The votes for each class of the draws from `start` to `stop`.

        Raises:
            LookupError: if no piece ends at one of them.
        """
        before, after = self.totals[start], self.totals[stop]
        return [b - a for a, b in zip(before, after, strict=True)]


class Counts:
    """All counts in a file. `problems` says what is wrong with a piece by itself.

    Raises:
        sqlite3.Error: if the file is missing or damaged.
    """

    def __init__(self, path: Path, classes: int) -> None:
        self._classes = classes
        self._pieces: defaultdict[Stream, list[Piece]] = defaultdict(list)
        self.problems: list[str] = []
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (version,) = db.execute("PRAGMA user_version").fetchone()
            unchecked = version == FORMAT_WITHOUT_CHECKSUMS
            columns = ", ".join(COLUMNS[:-1] if unchecked else COLUMNS)
            rows = db.execute(f"SELECT {columns} FROM counts ORDER BY start, stop").fetchall()
        if version not in (FORMAT_WITHOUT_CHECKSUMS, VOTES_FORMAT):
            self.problems.append(f"format {version}: expected {VOTES_FORMAT}")
        for row in rows:
            key, (votes, seconds, node, *sums) = row[: len(KEY)], row[len(KEY) :]
            *_, start, stop = key
            stream = Stream(*key[: len(Stream._fields)])
            self._add(stream, start, stop, votes)
            if not (type(seconds) is float and 0 <= seconds < math.inf and type(node) is str):
                self._wrong(stream, start, f"{seconds!r} s on {node!r}")
            if not unchecked and sums != [checksum(key, votes)]:
                self._wrong(stream, start, "the checksum is of a different row")

    def of(self, stream: Stream, *, longest: bool) -> Counted:
        """What was counted of a stream; of two pieces from the same draw, the `longest`, or not."""
        from_draw: dict[int, Piece] = {}
        for piece in self._pieces.get(stream, ()):
            # The shortest from each draw comes first.
            if longest or piece.start not in from_draw:
                from_draw[piece.start] = piece
        at, totals = 0, {0: [0] * self._classes}
        while (following := from_draw.get(at)) is not None:
            totals[following.stop] = [
                a + b for a, b in zip(totals[at], following.votes, strict=True)
            ]
            at = following.stop
        return Counted(totals)

    def _add(self, stream: Stream, start: Any, stop: Any, text: Any) -> None:
        try:
            votes = json.loads(text)
        except (RecursionError, TypeError, ValueError):
            votes = None
        if not (type(votes) is list and _counts(votes) and len(votes) == self._classes):
            self._wrong(stream, start, f"{text!r} are not the votes of {self._classes} classes")
        elif not (_counts([start, stop]) and start < stop and sum(votes) <= stop - start):
            self._wrong(stream, start, f"{sum(votes)} votes of the draws {start!r} to {stop!r}")
        else:
            self._pieces[stream].append(Piece(start, stop, votes))

    def _wrong(self, stream: Stream, start: Any, problem: str) -> None:
        self.problems.append(f"{stream.phase}, image {stream.image} from {start}: {problem}")


def _counts(values: Sequence[Any]) -> bool:
    """Whether all are whole numbers from 0."""
    return {*map(type, values)} == {int} and min(values) >= 0
