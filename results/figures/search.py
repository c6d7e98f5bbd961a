"""Figures of a search: its history, what mattered, and how trials went on."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from results.figures.drawing import COLOURS, WIDTH, canvas, in_percent, legend, style
from results.schema import SEARCHED, Row

MOST_AXES = 8
"""More hyperparameters than these side by side are not legible."""

_ORIGINS = {
    "search": ("best", "search"),
    "published": ("published", "published values"),
    "label_consistency": ("label_consistency", "label consistency"),
    "mse": ("mse", "mean squared error"),
}
# Diameter in points and opacity by state.
_STATES = {"complete": (6.0, 1.0), "pruned": (3.5, 0.7)}
# A range as wide as this is shown on a logarithmic axis.
_WIDE = 50
_Floats = NDArray[np.float64]


def history(trials: Sequence[Row], objective: str = "objective") -> Figure:
    """The score by trial number, by origin and state, with a line for the best so far.

    `trials` are rows of a trials table; pruned trials are small, and those without a score, because
    they failed, are crosses at the bottom. `objective` names the axis.
    """
    figure, axes = canvas(3.2)
    _draw_incumbent(axes, trials)
    for origin, (token, label) in _ORIGINS.items():
        of_origin = [row for row in trials if _origin(row) == origin]
        for state, (size, opacity) in _STATES.items():
            scored = [row for row in of_origin if row["state"] == state and _scored(row)]
            points = [(row["number"], row["objective"]) for row in scored]
            _dots(axes, points, COLOURS[token], size, opacity)
        lost = [row["number"] for row in of_origin if not _scored(row)]
        axes.plot(
            lost, [0.03] * len(lost), "x", transform=axes.get_xaxis_transform(),
            color=COLOURS[token],
        )  # fmt: skip
        if of_origin:
            axes.plot([], [], "o", color=COLOURS[token], label=label)
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.autoscale_view()
    axes.margins(y=0.12)
    if trials:
        legend(axes, "lower center", ncols=3, bbox_to_anchor=(0.45, 1.0), handletextpad=0.3)
    return figure


def importances(shares: Mapping[str, float]) -> Figure:
    """Bars of the importance of hyperparameters, the highest on top."""
    figure, axes = canvas(0.7 + 0.24 * len(shares))
    names = sorted(shares, key=lambda name: shares[name])
    axes.barh(names, [shares[name] for name in names], color=COLOURS["best"], height=0.6)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("share of the importance")
    in_percent(axes.xaxis)
    return figure


def slices(trials: Sequence[Row], names: Sequence[str], objective: str) -> Figure:
    """The score against each of the hyperparameters `names`, the small points being pruned."""
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(WIDTH, 0.3 + 1.65 * rows), layout="constrained")
    figure.set_facecolor(COLOURS["card"])
    grid = figure.subplots(rows, 2, sharey=True, squeeze=False).flat
    for axes, name in zip(grid, names, strict=False):
        style(axes)
        shown = [row for row in trials if _scored(row) and row[name] is not None]
        values, ticks = _on_axis([row[name] for row in shown])
        for state, (size, opacity) in _STATES.items():
            points = [
                (value, row["objective"])
                for value, row in zip(values, shown, strict=True)
                if row["state"] == state
            ]
            _dots(axes, points, COLOURS["best"], 0.7 * size, opacity)
        axes.set_xticks(list(ticks), list(ticks.values()), fontsize=8)
        axes.set_xlabel(name, fontsize=9)
        axes.margins(x=0.06, y=0.1)
        axes.autoscale_view()
    for axes in list(grid)[len(names) :]:
        axes.set_visible(False)
    figure.supylabel(objective, fontsize=10, color=COLOURS["ink"])
    return figure


def parallel(trials: Sequence[Row], names: Sequence[str], objective: str) -> Figure:
    """Parallel coordinates: a line per trial from its score through its hyperparameters.

    The best fifth of the trials stands out.
    """
    shown = sorted((row for row in trials if _scored(row)), key=lambda row: row["objective"])
    scores, ticks = _on_axis([row["objective"] for row in shown])
    columns, labels = [_unit(scores, scores)], [_scaled(ticks, scores)]
    for name in names:
        values, ticks = _on_axis([row[name] for row in shown])
        columns.append(_unit(values, values))
        labels.append(_scaled(ticks, values))
    figure, axes = canvas(3.9)
    lines = np.stack(columns, axis=1)
    best = max(1, round(len(shown) / 5))
    for group, token, opacity in ((lines[:-best], "muted", 0.25), (lines[-best:], "best", 0.7)):
        if len(group):
            places = np.tile(np.arange(len(columns), dtype=float), len(group))
            points = np.stack([places, group.ravel()], axis=1)
            path = _polylines(points.tolist(), [len(columns)] * len(group))
            axes.add_patch(_drawn(path, COLOURS[token], opacity))
    axes.grid(visible=False)
    axes.set_yticks([])
    axes.spines["bottom"].set_visible(False)
    for place, of_axis in enumerate(labels):
        axes.axvline(place, color=COLOURS["muted"], linewidth=0.8)
        for height, text in of_axis.items():
            axes.annotate(text, (place, height), fontsize=7.5, color=COLOURS["ink"],
                          xytext=(2, 0), textcoords="offset points", va="center")  # fmt: skip
    axes.set_xticks(range(len(columns)), [objective, *names], rotation=28, ha="right")
    axes.set_xlim(-0.1, len(columns) - 0.4)
    axes.set_ylim(-0.05, 1.05)
    return figure


def rung_scores(
    scores: Mapping[int, Sequence[tuple[int, float]]], states: Mapping[int, str], objective: str
) -> Figure:
    """Scores of trials at their rungs: `scores` holds pairs of epochs and score by trial number.

    Lines of pruned trials are dashed; `states` holds the state of each trial.
    """
    figure, axes = canvas(3.2)
    for state, token, dash in (("pruned", "muted", "--"), ("complete", "best", "-")):
        group = [scores[number] for number in scores if states.get(number) == state]
        if group:
            points = [point for line in group for point in line]
            lines = _polylines(points, [len(line) for line in group])
            axes.add_patch(_drawn(lines, COLOURS[token], 0.6, dash))
            axes.plot([], [], color=COLOURS[token], linestyle=dash, label=state)
            _dots(axes, points, COLOURS[token], 3.0, 0.7)
    axes.autoscale_view()
    axes.set_xlabel("epochs")
    axes.set_ylabel(objective)
    if scores:
        legend(axes)
    return figure


def trial_front(trials: Sequence[Row], objective: str) -> Figure:
    """The complete trials by clean accuracy and score, both on the tuning images."""
    figure, axes = canvas(3.4)
    for origin, (token, label) in _ORIGINS.items():
        points = [
            (row["accuracy"], row["objective"])
            for row in trials
            if row["state"] == "complete" and _scored(row) and _origin(row) == origin
        ]
        _dots(axes, points, COLOURS[token], 5.0, 0.8, label)
    axes.autoscale_view()
    axes.margins(0.06)
    axes.set_xlabel("clean accuracy")
    axes.set_ylabel(objective)
    in_percent(axes.xaxis)
    if trials:
        legend(axes)
    return figure


def _draw_incumbent(axes: Axes, trials: Sequence[Row]) -> None:
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
        color=COLOURS["muted"],
        linewidth=1.6,
        label="best so far",
    )


def _dots(
    axes: Axes,
    points: Sequence[tuple[float, float]],
    colour: str,
    size: float,
    opacity: float,
    label: str | None = None,
) -> None:
    """Points as strokes of no length with round ends: a tenth of the text of a marker each."""
    if not points:
        return
    ends = np.repeat(np.array(points, dtype=np.float64), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points))
    drawn = PathPatch(Path(ends, codes), fill=False, color=colour, linewidth=size, alpha=opacity,
                      capstyle="round", zorder=3)  # fmt: skip
    axes.add_patch(drawn)
    axes.update_datalim(ends)
    if label:
        axes.plot([], [], "o", color=colour, markersize=size, alpha=opacity, label=label)


def _polylines(points: Sequence[Sequence[float]], lengths: Sequence[int]) -> Path:
    """Lines one after the other in `points`, each with its number of points, as one path."""
    codes = np.full(len(points), Path.LINETO)
    codes[np.cumsum([0, *lengths[:-1]])] = Path.MOVETO
    return Path(np.array(points, dtype=np.float64), codes)


def _drawn(path: Path, colour: str, opacity: float, dash: str = "-") -> PathPatch:
    return PathPatch(
        path, fill=False, color=colour, linewidth=1.0, alpha=opacity, linestyle=dash
    )  # fmt: skip


def _on_axis(values: Sequence[Any]) -> tuple[_Floats, dict[float, str]]:
    """Where values of a hyperparameter are on an axis, and the labels of a few places.

    Numbers over a wide range are logarithmic, with a zero below all others; what is no number, or
    has few values, gets a place for each.
    """
    known = sorted({*values}, key=lambda v: (isinstance(v, str), v))
    if any(isinstance(value, str | bool) for value in known) or len(known) <= 4:
        place = {value: float(index) for index, value in enumerate(known)}
        return np.array([place[v] for v in values]), {
            at: _short(value) for value, at in place.items()
        }
    numbers = np.array(values, dtype=np.float64)
    positive = numbers[numbers > 0]
    if numbers.min() < 0 or positive.max() < _WIDE * positive.min():
        low, high = float(numbers.min()), float(numbers.max())
        return numbers, {at: _short(at) for at in (low, (low + high) / 2, high)}
    low, high = math.log(positive.min()), math.log(positive.max())
    zero = low - (high - low) / 8
    shown = np.where(numbers > 0, np.log(np.where(numbers > 0, numbers, 1.0)), zero)
    ticks = {at: _short(math.exp(at)) for at in (low, (low + high) / 2, high)}
    return shown, ({zero: "0"} if (numbers == 0).any() else {}) | ticks


def _unit(values: _Floats, of: _Floats) -> _Floats:
    """Values scaled such that `of` spans [0, 1]."""
    span = float(of.max() - of.min())
    scaled: _Floats = (values - of.min()) / span if span else np.full(len(values), 0.5)
    return scaled


def _scaled(ticks: Mapping[float, str], of: _Floats) -> dict[float, str]:
    return dict(zip(_unit(np.array([*ticks]), of).tolist(), ticks.values(), strict=True))


def _short(value: Any) -> str:
    text = f"{value:.3g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 14 else f"{text[:13]}…"


def _origin(row: Row) -> str:
    origin = str(row["origin"])
    # The published values at a different sigma are drawn like the published ones.
    return "search" if origin in SEARCHED else origin.removesuffix("_sigma")


def _scored(row: Row) -> bool:
    return row["objective"] is not None and math.isfinite(row["objective"])
