"""How a terminal shows what a run is doing: a bar for each step, and what else there is to know."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tuning.monitoring.steps import Activity, Step

# Columns of a bar.
BAR = 10


def panel(activity: Activity) -> RenderableType:
    """What the terminal shows now; no line is wider than the terminal.

    A terminal that is too low leaves out the last lines.
    """
    facts = [Text(fact) for fact in [activity.timing, *activity.facts.values()]]
    for fact in facts:
        fact.no_wrap, fact.overflow, fact.style = True, "ellipsis", "dim"
    return Group(*facts, _bars(list(activity.steps)))


def _bars(steps: Iterable[Step]) -> Table:
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    table.add_column(width=BAR)
    for _ in range(3):
        table.add_column(justify="right", no_wrap=True)
    for step in steps:
        bar = ProgressBar(total=max(1, step.total), completed=step.done, width=BAR)
        table.add_row(Text(step.what), bar, step.amount, step.speed, step.remaining)
    return table
