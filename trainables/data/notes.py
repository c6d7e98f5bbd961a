"""What was left out of a data set, or changed, as lines with counts."""

from __future__ import annotations

from trainables.errors import printable

# Names that one line mentions.
MENTIONED = 3


class Notes:
    """Counts by kind. A kind is a line in which {n} is the count and {s} the ending of its plural.

    notes = Notes()
    notes.add("left out {n} hidden file{s}", ".DS_Store")
    notes.lines   # ("left out 1 hidden file (.DS_Store)",)
    """

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, kind: str, *names: str, n: int = 1) -> None:
        """Count `n` more of `kind`; the line mentions a few of the names."""
        self._counts[kind] = self._counts.get(kind, 0) + n
        known = self._names.setdefault(kind, [])
        # One more than are mentioned, to know that there are more.
        known += [name for name in names if name not in known][: MENTIONED + 1 - len(known)]

    def include(self, other: Notes) -> None:
        """Count what `other` has counted as well."""
        for kind, n in other._counts.items():
            self.add(kind, *other._names[kind], n=n)

    @property
    def lines(self) -> tuple[str, ...]:
        """A line for each kind, in the order in which they were met first."""
        return tuple(self._line(kind, n) for kind, n in self._counts.items())

    def _line(self, kind: str, n: int) -> str:
        names = [printable(name) for name in self._names[kind][:MENTIONED]]
        names += ["..."] if len(self._names[kind]) > MENTIONED else []
        line = kind.format(n=n, s="" if n == 1 else "s")
        return f"{line} ({', '.join(names)})" if names else line
