"""Figures of several settings, or of several runs, side by side."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from results.curves import share_of
from results.figures.drawing import COLOURS, canvas, in_percent, legend, variant_colour
from results.schema import VARIANTS, Row, accuracy_column


def heat_map(cells: Mapping[str, Mapping[str, float]], columns: Mapping[str, str]) -> Figure:
    """Shares in [0, 1] by row and column, darker where they are higher; a missing one is empty.

    `cells` holds the shares of a row by the names in `columns`, whose values are labels.
    """
    figure, axes = canvas(0.9 + 0.36 * len(cells))
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    for row, shares in enumerate(cells.values()):
        for column, name in enumerate(columns):
            if name in shares:
                axes.fill_between(
                    [column - 0.48, column + 0.48],
                    row - 0.46,
                    row + 0.46,
                    color=COLOURS["best"],
                    alpha=0.6 * shares[name],
                    linewidth=0,
                )
                axes.text(column, row, f"{shares[name]:.0%}", ha="center", va="center",
                          color=COLOURS["ink"], fontsize=10)  # fmt: skip
    axes.set_xticks(range(len(columns)), list(columns.values()), fontsize=8)
    axes.xaxis.tick_top()
    axes.set_yticks(range(len(cells)), list(cells))
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(cells) - 0.5, -0.5)
    return figure


def against_shots(
    summaries: Mapping[float, Sequence[Row]], labels: Mapping[str, str], at: float
) -> Figure:
    """Certified accuracy at the radius `at` against the shots per class, with 95 % intervals.

    `summaries` holds rows of `schema.SUMMARY` by number of shots, or by their share in percent.
    """
    figure, axes = canvas(3.4)
    column = accuracy_column(at)
    for variant in reversed(VARIANTS):
        found = [
            (shots, share_of(round(row[column] * row["images"]), row["images"]))
            for shots, rows in sorted(summaries.items())
            for row in rows
            if row["variant"] == variant
        ]
        if found:
            values = np.array([(e.value, e.value - e.low, e.high - e.value) for _, e in found])
            axes.errorbar(
                [shots for shots, _ in found], values[:, 0], values[:, 1:].T, fmt="o-",
                color=variant_colour(variant), linewidth=2.2 if variant == "best" else 1.4,
                elinewidth=1, capsize=2, markersize=5, label=labels[variant],
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xticks([*summaries], [f"{shots:g}" for shots in summaries])
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.set_ylabel(f"certified accuracy at {at:g}")
    in_percent(axes.yaxis)
    legend(axes)
    return figure
