"""Figures of a run as PNG bytes, drawn without pyplot, which would change global state."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from results.curves import accuracy_curve, average_certified_radius, outcomes, share_of
from results.schema import (
    PUBLISHED_BEST_SIGMA,
    SEARCHED,
    VARIANTS,
    Row,
    front_number,
    variant_label,
)


@dataclass(frozen=True)
class _Theme:
    """Colours of one scheme; the variants' are from Okabe and Ito, safe for the colour-blind."""

    background: str
    text: str
    muted: str
    grid: str
    origins: Mapping[str, str]
    variants: Mapping[str, str]


_LIGHT = _Theme(
    background="#ffffff",
    text="#1f2430",
    muted="#667085",
    grid="#e4e7ec",
    origins={
        "search": "#0072b2",
        "published": "#d55e00",
        "label_consistency": "#009e73",
        "mse": "#cc79a7",
    },
    variants={
        "none": "#7a7f87",
        "label_consistency": "#009e73",
        "published": "#d55e00",
        PUBLISHED_BEST_SIGMA: "#e69f00",
        "best": "#0072b2",
    },
)
_DARK = _Theme(
    background="#171b22",
    text="#e6e9ef",
    muted="#98a2b3",
    grid="#2b313b",
    origins={
        "search": "#56b4e9",
        "published": "#f09a4b",
        "label_consistency": "#2fc79a",
        "mse": "#e3a3c8",
    },
    variants={
        "none": "#a3a9b3",
        "label_consistency": "#2fc79a",
        "published": "#f09a4b",
        PUBLISHED_BEST_SIGMA: "#f5c869",
        "best": "#56b4e9",
    },
)
_LINES = {"none": ":", "label_consistency": "-.", "published": "--", "best": "-"}
_ORIGINS = {
    "search": "search",
    "published": "published values",
    "label_consistency": "label consistency",
    "mse": "mean squared error",
}
_MARKERS = {"complete": "o", "pruned": "v", "failed": "x"}


def curves_figure(
    certificates: Mapping[str, Sequence[Row]], labels: Mapping[str, str], dark: bool = False
) -> bytes:
    """PNG of certified accuracy against radius: one step line and 95 % band per variant.

    `certificates` holds rows of `schema.CERTIFICATES` by variant, and `labels` their names for
    readers; sigma and ACR are added. `dark` draws in light colours on a dark background.
    """
    theme = _DARK if dark else _LIGHT
    figure, axes = _canvas(theme, 8.0, 4.8)
    reach = 0.0
    for variant in [name for name in reversed(VARIANTS) if name in certificates]:
        rows = certificates[variant]
        _draw_variant(axes, variant, rows, labels[variant], theme.variants[variant])
        reach = max(reach, *(row["radius"] for row in rows if row["predicted"] == row["label"]), 0)
    axes.set_xlim(0, reach * 1.05 or 1.0)
    axes.set_ylim(0, 1)
    axes.set_xlabel(r"certified $\ell_2$ radius (pixels on [0, 1])")
    axes.set_ylabel("certified accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if certificates:
        legend = axes.legend(loc="upper right", labelcolor=theme.text, handlelength=2.6)
        legend.get_frame().set(facecolor=theme.background, edgecolor="none", alpha=0.85)
    return _png(figure)


def history_figure(
    trials: Sequence[Row], objective: str = "objective", dark: bool = False
) -> bytes:
    """PNG of the search: score by trial number, by origin and state, with the incumbent's line.

    `trials` are rows of a trials table; a trial without an objective, because it failed, is a cross
    at the bottom. `objective` names the axis. `dark` draws in light colours on a dark background.
    """
    theme = _DARK if dark else _LIGHT
    figure, axes = _canvas(theme, 8.0, 3.6)
    _draw_incumbent(axes, trials, theme)
    for state, marker in _MARKERS.items():
        for origin, label in _ORIGINS.items():
            group = [row for row in trials if (row["state"], _origin(row)) == (state, origin)]
            _draw_trials(axes, group, marker, theme.origins[origin], f"{label}, {state}")
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{objective} on tuning images")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.1)
    if trials:
        axes.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, labelcolor=theme.text
        )
    return _png(figure)


def bounds_figure(
    certificates: Mapping[str, Sequence[Row]], labels: Mapping[str, str], dark: bool = False
) -> bytes:
    """PNG of how the bounds `p_lower` are distributed over the images, one line per variant.

    The bound is on the probability of the class that the votes picked, right or wrong.
    `labels` and `dark` are as in `curves_figure`.
    """
    theme = _DARK if dark else _LIGHT
    figure, axes = _canvas(theme, 8.0, 3.6)
    for variant in [name for name in reversed(VARIANTS) if name in certificates]:
        axes.ecdf(
            [row["p_lower"] for row in certificates[variant]],
            color=theme.variants[variant],
            linestyle=_LINES[variant],
            linewidth=2.4 if variant == "best" else 1.8,
            label=labels[variant],
        )
    # Below one half a bound on this class alone proves nothing.
    axes.axvline(0.5, color=theme.muted, linewidth=1.0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("lower bound on the probability of the top class")
    axes.set_ylabel("share of the images")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="upper left", frameon=False, labelcolor=theme.text)
    return _png(figure)


def tradeoff_figure(summary: Sequence[Row], dark: bool = False) -> bytes:
    """PNG of clean accuracy against the score on the test images, with 95 % intervals of both.

    `summary` holds rows of `schema.SUMMARY` of one setting; the members of the Pareto front are
    joined by a line and numbered. `dark` draws in light colours on a dark background.
    """
    theme = _DARK if dark else _LIGHT
    figure, axes = _canvas(theme, 8.0, 4.8)
    members = [row for row in summary if front_number(row["variant"]) is not None]
    axes.plot(
        [row["certified_accuracy_0"] for row in members],
        [row["score"] for row in members],
        color=theme.muted,
        linewidth=1.2,
        zorder=1,
    )
    for row in summary:
        _draw_tradeoff(axes, row, theme)
    axes.set_xlabel("clean accuracy (certified at radius 0)")
    axes.set_ylabel("score, guessing is at 0")
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.legend(loc="best", frameon=False, labelcolor=theme.text)
    return _png(figure)


def _draw_tradeoff(axes: Axes, row: Row, theme: _Theme) -> None:
    variant, number = row["variant"], front_number(row["variant"])
    colour = theme.variants.get(variant, theme.variants["best"])
    accuracy = share_of(round(row["certified_accuracy_0"] * row["images"]), row["images"])
    x, y = accuracy.value, row["score"]
    axes.errorbar(
        x,
        y,
        xerr=[[x - accuracy.low], [accuracy.high - x]],
        yerr=[[y - row["score_low"]], [row["score_high"] - y]],
        color=colour,
        elinewidth=0.8,
        alpha=0.45,
        zorder=2,
    )
    axes.scatter(
        x,
        y,
        s=46 if number is None else 26,
        color=colour,
        marker="D" if variant == "best" else "o",
        label=variant_label(variant, row["origin"]) if number is None else None,
        zorder=3,
    )
    if number is not None:
        axes.annotate(
            str(number),
            (x, y),
            xytext=(5, 5),
            textcoords="offset points",
            color=theme.text,
            fontsize=9,
        )


def _canvas(theme: _Theme, width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), dpi=160, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(theme.background)
    axes = figure.add_subplot()
    axes.set_facecolor(theme.background)
    axes.grid(color=theme.grid, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=theme.muted, length=0)
    axes.xaxis.label.set_color(theme.text)
    axes.yaxis.label.set_color(theme.text)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
    return figure, axes


def _draw_variant(axes: Axes, variant: str, rows: Sequence[Row], label: str, colour: str) -> None:
    correct, radius = outcomes(rows)
    curve = accuracy_curve(correct, radius)
    acr = average_certified_radius(correct, radius).value
    sigma = rows[0]["sigma"]
    # "pre" extends each value back to the previous radius: accuracy at r counts radii >= r.
    axes.step(
        curve.radii,
        curve.accuracy,
        where="pre",
        color=colour,
        linestyle=_LINES[variant],
        linewidth=2.4 if variant == "best" else 1.8,
        label=rf"{label}   $\sigma$ {sigma:.3g}   ACR {acr:.3f}",
    )
    axes.fill_between(
        curve.radii, curve.low, curve.high, step="pre", color=colour, alpha=0.13, linewidth=0
    )


def _draw_incumbent(axes: Axes, trials: Sequence[Row], theme: _Theme) -> None:
    finished = sorted(
        (row["number"], row["objective"])
        for row in trials
        if row["state"] == "complete" and _scored(row)
    )
    if not finished:
        return
    numbers, scores = zip(*finished, strict=True)
    best = np.maximum.accumulate(scores)
    last = max(row["number"] for row in trials)
    axes.step(
        [*numbers, last],
        [*best, best[-1]],
        where="post",
        color=theme.muted,
        linewidth=1.6,
        label="best so far",
    )


def _origin(row: Row) -> str:
    origin = str(row["origin"])
    # The published values at a different sigma are drawn like the published ones.
    return "search" if origin in SEARCHED else origin.removesuffix("_sigma")


def _scored(row: Row) -> bool:
    return row["objective"] is not None and math.isfinite(row["objective"])


def _draw_trials(axes: Axes, rows: Sequence[Row], marker: str, colour: str, label: str) -> None:
    if not rows:
        return
    scored = [row for row in rows if _scored(row)]
    unscored = [row["number"] for row in rows if not _scored(row)]
    style: dict[str, Any] = {"s": 42, "marker": marker, "color": colour, "zorder": 3}
    style["alpha"] = 0.6 if marker == _MARKERS["pruned"] else 1.0
    numbers, scores = [row["number"] for row in scored], [row["objective"] for row in scored]
    axes.scatter(numbers, scores, label=label, **style)
    bottom = axes.get_xaxis_transform()
    axes.scatter(unscored, [0.03] * len(unscored), transform=bottom, **style)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
