"""Figures of certificates: curves, bounds, radii, what images get, classes, and the front."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.curves import (
    Bools,
    Floats,
    accuracy_curve,
    outcomes,
    share_of,
)
from results.figures.drawing import COLOURS, canvas, in_percent, legend, variant_colour
from results.schema import (
    VARIANTS,
    Row,
    accuracy_column,
    front_number,
    variant_label,
    wrong_column,
)

_LINES = {"none": ":", "label_consistency": "-.", "published": "--", "best": "-"}
# More points than these of a curve cannot be seen.
_POINTS = 300
# More classes than these are not legible beside each other.
MOST_CLASSES = 24


class Anchor(Protocol):
    """A published curve: certified accuracy at radii, and whose it is."""

    @property
    def label(self) -> str:
        """What the legend says."""

    @property
    def radii(self) -> Sequence[float]:
        """L2, in pixel units."""

    @property
    def accuracy(self) -> Sequence[float]:
        """Shares in [0, 1]."""


def curves(
    certificates: Mapping[str, Sequence[Row]],
    labels: Mapping[str, str],
    anchors: Sequence[Anchor] = (),
) -> Figure:
    """Certified accuracy against radius: one step line and 95 % band per variant.

    `certificates` holds rows of `schema.CERTIFICATES` by variant, and `labels` their names for
    readers. `anchors` are points for comparison.
    """
    figure, axes = canvas(4.0)
    reach = 0.0
    for variant in _shown(certificates):
        correct, radius = outcomes(certificates[variant])
        draw_curve(axes, correct, radius, {**_line(variant), "label": labels[variant]})
        reach = max(reach, float((correct * radius).max()))
    for anchor, marker in zip(anchors, "sD^v", strict=False):
        axes.plot(
            anchor.radii, anchor.accuracy, marker, color=COLOURS["muted"], markersize=4.5,
            markerfacecolor="none", label=anchor.label,
        )  # fmt: skip
    describe_curves(axes, reach)
    return figure


def describe_curves(axes: Axes, reach: float) -> None:
    """Give axes with curves of certified accuracy their labels; the largest radius is `reach`."""
    axes.set_xlim(0, reach * 1.05 or 1.0)
    axes.set_ylim(0, 1)
    axes.set_xlabel("certified radius (L2, pixels in [0, 1])")
    axes.set_ylabel("certified accuracy")
    in_percent(axes.yaxis)
    legend(axes, "upper right", handlelength=2.4)


def draw_curve(axes: Axes, correct: Bools, radius: Floats, line: Mapping[str, Any]) -> None:
    """Draw one step line, with the properties in `line`, and its 95 % band."""
    steps = len(np.unique(radius[correct]))
    grid = None if steps <= _POINTS else np.linspace(0, radius.max() * 1.001, _POINTS)
    curve = accuracy_curve(correct, radius, grid)
    # "pre" extends each value back to the previous radius: accuracy at r counts radii >= r.
    axes.step(curve.radii, curve.accuracy, where="pre", **line)
    band = {"color": line["color"], "alpha": 0.13, "linewidth": 0}
    axes.fill_between(curve.radii, curve.low, curve.high, step="pre", **band)


def bounds(certificates: Mapping[str, Sequence[Row]], labels: Mapping[str, str]) -> Figure:
    """How the bounds `p_lower` are distributed over the images, one line per variant.

    The bound is on the probability of the class that the votes picked, right or wrong. The
    arguments are as in `curves`.
    """
    figure, axes = canvas(3.2)
    for variant in _shown(certificates):
        values = np.sort([row["p_lower"] for row in certificates[variant]])
        shown = _few(len(values))
        axes.step(
            np.concatenate([[0], values[shown], [1]]),
            np.concatenate([[0], (shown + 1) / len(values), [1]]),
            where="post",
            label=labels[variant],
            **_line(variant),
        )
    # Below one half a bound on this class alone proves nothing.
    axes.axvline(0.5, color=COLOURS["muted"], linewidth=1.0)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.set_xlabel("lower bound on the probability of the top class")
    axes.set_ylabel("share of the images")
    in_percent(axes.yaxis)
    legend(axes, "upper left")
    return figure


def radii(certificates: Mapping[str, Sequence[Row]], labels: Mapping[str, str]) -> Figure:
    """A histogram of the radii of the images that are certified right, one line per variant.

    The arguments are as in `curves`.
    """
    figure, axes = canvas(3.2)
    of_right = {
        variant: radius[correct]
        for variant in _shown(certificates)
        for correct, radius in [outcomes(certificates[variant])]
    }
    reach = max((float(found.max()) for found in of_right.values() if found.size), default=1.0)
    edges = np.linspace(0, reach or 1.0, 25)
    for variant, found in of_right.items():
        counts, _ = np.histogram(found, edges)
        share = counts / len(certificates[variant])
        line = _line(variant)
        axes.stairs(share, edges, label=labels[variant], **line)
        if variant == "best":
            axes.stairs(share, edges, fill=True, color=line["color"], alpha=0.13)
    axes.set_xlim(0, edges[-1])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("radius of images that are certified right")
    axes.set_ylabel("share of all images")
    in_percent(axes.yaxis)
    legend(axes, "upper right")
    return figure


def answers(summary: Sequence[Row], labels: Mapping[str, str], at: float) -> Figure:
    """What the images get at the radius `at`: certified right, certified wrong, or neither.

    `summary` holds rows of `schema.SUMMARY` of one setting. A mark shows the share of images that
    get the most frequent answer, and a second one the share that are of that class.
    """
    rows = [row for row in summary if row["variant"] in labels][::-1]
    figure, axes = canvas(1.1 + 0.4 * len(rows))
    right = np.array([row[accuracy_column(at)] for row in rows])
    wrong = np.array([row[wrong_column(at)] for row in rows])
    places = np.arange(len(rows))
    axes.barh(places, right, 0.55, color=COLOURS["best"], label="certified right")
    axes.barh(places, wrong, 0.55, right, color=COLOURS["loss"], label="certified wrong")
    most = [row["most_frequent_share"] for row in rows]
    true = [row["most_frequent_true"] for row in rows]
    style: dict[str, Any] = {"color": COLOURS["ink"], "linestyle": "none", "clip_on": False}
    axes.plot(most, places, "D", markersize=5, label="most frequent answer", **style)
    axes.plot(true, places, "|", markersize=12, label="images of that class", **style)
    axes.set_yticks(places, [labels[row["variant"]] for row in rows])
    axes.set_xlim(0, 1)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("share of the images")
    in_percent(axes.xaxis)
    legend(axes, "lower center", ncols=2, bbox_to_anchor=(0.4, 1.0), handlelength=1.0,
           columnspacing=0.9, handletextpad=0.4)  # fmt: skip
    return figure


def classes(rows: Sequence[Row], labels: Mapping[str, str], at: float) -> Figure:
    """Certified accuracy of each class at the radius `at`, worst class of the best variant last.

    `rows` are of `schema.classes_schema`. Of more than `MOST_CLASSES` classes, only the highest and
    the lowest are drawn.
    """
    column = accuracy_column(at)
    names = ranked_classes(rows, at)
    figure, axes = canvas(0.8 + 0.26 * len(names))
    place = {name: len(names) - 1 - index for index, name in enumerate(names)}
    for variant in _shown(dict.fromkeys(row["variant"] for row in rows)):
        of_variant = [row for row in rows if row["variant"] == variant and row["name"] in place]
        places = [place[row["name"]] for row in of_variant]
        best = variant == "best"
        if best:
            shares = [share_of(round(row[column] * row["images"]), row["images"])
                      for row in of_variant]  # fmt: skip
            axes.hlines(places, [s.low for s in shares], [s.high for s in shares],
                        color=variant_colour(variant), alpha=0.35, linewidth=3)  # fmt: skip
        axes.plot(
            [row[column] for row in of_variant], places, "o" if best else "d",
            color=variant_colour(variant), markersize=7 if best else 4.5, linestyle="none",
            label=labels.get(variant, variant), clip_on=False,
        )  # fmt: skip
    axes.set_yticks(list(place.values()), list(place))
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"certified accuracy at {at:g}")
    in_percent(axes.xaxis)
    legend(axes, "lower center", ncols=3, bbox_to_anchor=(0.45, 1.0), handletextpad=0.3)
    return figure


def ranked_classes(rows: Sequence[Row], at: float) -> list[str]:
    """The names of the classes to draw, by certified accuracy of the best variant at `at`."""
    variant = "best" if any(row["variant"] == "best" for row in rows) else rows[0]["variant"]
    of_variant = [row for row in rows if row["variant"] == variant]
    column = accuracy_column(at)
    names = [row["name"] for row in sorted(of_variant, key=lambda row: -row[column])]
    half = MOST_CLASSES // 2
    return names if len(names) <= MOST_CLASSES else names[:half] + names[-half:]


def tradeoff(summary: Sequence[Row]) -> Figure:
    """Clean accuracy against the score on the test images, with 95 % intervals of both.

    `summary` holds rows of `schema.SUMMARY` of one setting; the members of the Pareto front are
    joined by a line and numbered.
    """
    figure, axes = canvas(3.8)
    members = [row for row in summary if front_number(row["variant"]) is not None]
    axes.plot(
        [row["certified_accuracy_0"] for row in members],
        [row["score"] for row in members],
        color=COLOURS["muted"],
        linewidth=1.2,
        zorder=1,
    )
    for row in summary:
        _draw_tradeoff(axes, row)
    axes.set_xlabel("clean accuracy (certified at radius 0)")
    axes.set_ylabel("score, guessing is at 0")
    in_percent(axes.xaxis)
    legend(axes)
    return figure


def _draw_tradeoff(axes: Axes, row: Row) -> None:
    variant, number = row["variant"], front_number(row["variant"])
    accuracy = share_of(round(row["certified_accuracy_0"] * row["images"]), row["images"])
    x, y = accuracy.value, row["score"]
    axes.errorbar(
        x,
        y,
        xerr=[[x - accuracy.low], [accuracy.high - x]],
        yerr=[[y - row["score_low"]], [row["score_high"] - y]],
        color=variant_colour(variant),
        elinewidth=0.8,
        alpha=0.45,
        zorder=2,
    )
    axes.scatter(
        x,
        y,
        s=46 if number is None else 26,
        color=variant_colour(variant),
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
            color=COLOURS["ink"],
            fontsize=9,
        )


def _shown(variants: Mapping[str, object]) -> list[str]:
    """The variants that are drawn, the best one first."""
    return [name for name in reversed(VARIANTS) if name in variants]


def _line(variant: str) -> dict[str, Any]:
    best = variant == "best"
    return {
        "color": variant_colour(variant),
        "linestyle": _LINES[variant],
        "linewidth": 2.4 if best else 1.6,
        "zorder": 3 if best else 2,
    }


def _few(count: int) -> np.ndarray:
    """The positions of at most `_POINTS` of `count` sorted values, the first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, _POINTS)).round().astype(int))
