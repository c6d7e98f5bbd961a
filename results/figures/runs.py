"""Figures that compare runs."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from results.curves import outcomes
from results.figures.certificates import describe_curves, draw_curve
from results.figures.drawing import COLOURS, canvas, legend
from results.schema import Row

_TOKENS = ("best", "published", "label_consistency", "mse", "published_best_sigma", "none")
_DASHES = ("-", "--", "-.", ":")


def curves_of_runs(certificates: Mapping[str, Sequence[Row]]) -> Figure:
    """Certified accuracy against radius, one step line and 95 % band per run.

    `certificates` holds rows of `schema.CERTIFICATES` of one variant by the name of the run.
    """
    figure, axes = canvas(4.0)
    reach = 0.0
    for (name, rows), line in zip(certificates.items(), _lines(), strict=False):
        correct, radius = outcomes(rows)
        draw_curve(axes, correct, radius, {**line, "linewidth": 1.8, "label": name})
        reach = max(reach, float((correct * radius).max()))
    describe_curves(axes, reach)
    return figure


def incumbents(trials: Mapping[str, Sequence[Row]], objective: str) -> Figure:
    """The best score so far by the number of trials that have ended, one line per run.

    `trials` holds rows of trials tables by the name of the run.
    """
    figure, axes = canvas(3.4)
    for (name, rows), line in zip(trials.items(), _lines(), strict=False):
        ended = [row for row in rows if row["state"] == "complete" and row["objective"] is not None]
        scores = np.maximum.accumulate([row["objective"] for row in ended] or [np.nan])
        numbers = [row["number"] for row in ended] or [0]
        axes.step(numbers, scores, where="post", linewidth=1.8, label=name, **line)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"best {objective} so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(axes, "lower right")
    return figure


def _lines() -> Iterator[dict[str, Any]]:
    """A colour and a dash for each run: twelve differ in one of them at least."""
    for token, dash in zip(cycle(_TOKENS), cycle(_DASHES), strict=False):
        yield {"color": COLOURS[token], "linestyle": dash}
