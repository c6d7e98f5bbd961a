"""The four variants as a table for the terminal."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from results.schema import CERTIFIED_AT, VARIANTS, Row


def summary_table(rows: Sequence[Row], objective: str = "acr") -> Table:
    """Table of rows of `schema.SUMMARY`, one line per setting and variant, in their order.

    `objective` is what the search maximised; it names the column of tuning scores.
    """
    several = len({row["setting"] for row in rows}) > 1
    table = Table(caption="r=R: certified accuracy at radius R. Abstentions count as wrong.")
    if several:
        table.add_column("setting", no_wrap=True)
    table.add_column("variant", no_wrap=True)
    for name in ("sigma", f"{objective_label(objective)} tuning", "ACR test [95%]"):
        table.add_column(name, justify="right")
    for radius in CERTIFIED_AT.values():
        table.add_column(f"r={radius:g}", justify="right")
    table.add_column("abstained", justify="right")
    for row in rows:
        # Text, not str: brackets in names and intervals are not markup.
        cells = [Text(cell) for cell in ([row["setting"]] if several else []) + _cells(row)]
        table.add_row(*cells, style="bold" if row["variant"] == "best" else None)
    return table


def objective_label(objective: str) -> str:
    """How readers see an objective's name: ACR in capitals, others as they are."""
    return "ACR" if objective == "acr" else objective


def _cells(row: Row) -> list[str]:
    tuning = row["tuning_objective"]
    return [
        VARIANTS.get(row["variant"], row["variant"]),
        f"{row['sigma']:.3g}",
        "" if tuning is None else f"{tuning:.3f}",
        f"{row['acr']:.3f} [{row['acr_low']:.3f}, {row['acr_high']:.3f}]",
        *(f"{row[name]:.1%}" for name in CERTIFIED_AT),
        f"{row['abstained']:.1%}",
    ]
