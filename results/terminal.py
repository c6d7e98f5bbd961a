"""The four variants as a table for the terminal, no wider than 80 columns."""

import math
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from results.schema import CERTIFIED_AT, Row, front_number, variant_label


def summary_tables(rows: Sequence[Row], objective: str = "acr") -> Group:
    """A table per setting of rows of `schema.SUMMARY`, one line per variant, in their order.

    `objective` is what the search maximised: the score on the tuning images.
    """
    groups = [(name, list(group)) for name, group in groupby(rows, lambda row: row["setting"])]
    legend = Text(
        f"tuning: {objective_label(objective)} on the tuning images. ACR: average certified "
        "radius on the test images, with its 95% interval. r=0 ...: certified accuracy in % at "
        "that radius; a wrong class or an abstention counts as wrong. abst: abstentions in %.",
        style="dim",
    )
    lines: list[RenderableType] = []
    for setting, group in groups:
        lines += [_table(setting, group), *_front(group)]
    return Group(*lines, legend)


def objective_label(objective: str) -> str:
    """How readers see an objective's name: ACR in capitals, others as they are."""
    return "ACR" if objective in {"acr", "pareto"} else objective


def round_down(accuracy: float) -> float:
    """`accuracy` with three digits and rounded down, as a value for --min-accuracy."""
    return math.floor(1000 * accuracy) / 1000


def _table(setting: str, rows: Sequence[Row]) -> Table:
    table = Table(
        # Text, not str: brackets in names and intervals are not markup.
        title=Text(setting),
        box=box.SIMPLE_HEAD,
        padding=0,
        show_edge=False,
    )
    table.add_column("variant", no_wrap=True)
    radii = [f"r={radius:g}" if radius == 0 else f"{radius:g}" for radius in CERTIFIED_AT.values()]
    for name in ("sigma", "tuning", "ACR", "95%", *radii, "abst"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        cells = [Text(cell) for cell in _cells(row)]
        table.add_row(*cells, style="bold" if row["variant"] == "best" else None)
    return table


def _front(rows: Sequence[Row]) -> list[Text]:
    """How to have a different member of the front exported."""
    members = [row for row in rows if front_number(row["variant"]) is not None]
    if not members:
        return []
    accuracies = ", ".join(
        f"{front_number(row['variant'])}: {round_down(row['tuning_accuracy'])}" for row in members
    )
    return [
        Text(
            f"Clean accuracy of the front on the tuning images: {accuracies}. To export a "
            "different one as best, --resume with --min-accuracy and the accuracy it must have.\n",
            style="dim",
        )
    ]


def _cells(row: Row) -> list[str]:
    tuning = row["tuning_objective"]
    return [
        variant_label(row["variant"]),
        f"{row['sigma']:.3g}",
        "" if tuning is None else f"{tuning:.3f}",
        f"{row['acr']:.3f}",
        f"{row['acr_low']:.3f}-{row['acr_high']:.3f}",
        *(f"{100 * row[name]:.3g}" for name in CERTIFIED_AT),
        f"{100 * row['abstained']:.3g}",
    ]
