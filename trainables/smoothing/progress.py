"""How far certificates are, while their votes are cast."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

# Called with the votes that are cast, and how many there will be at most.
Report = Callable[[int, int], None]


@contextmanager
def reporting(progress: bool | Report, most: int) -> Iterator[Callable[[int], None] | None]:
    """What to call with the number of votes so far; None if nobody wants to know.

    `progress` is True for a bar on standard error, or a function.
    """
    if callable(progress):
        told = progress
        yield lambda votes: told(votes, most)
    elif not progress:
        yield None
    else:
        # A fifth of a second that nobody else needs.
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("votes"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
        with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True)) as bar:
            task = bar.add_task("votes", total=most)
            yield lambda votes: bar.update(task, completed=votes)
