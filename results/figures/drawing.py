"""How figures are drawn: without pyplot, which would change global state, and as SVG or PNG.

A figure is drawn once, in the colours of `COLOURS`. In its SVG each of them is a custom property of
the page, so that a light page, a dark one and paper show the same figure in their own colours.
"""

import io
import re
from collections.abc import Mapping
from html import escape
from types import MappingProxyType
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

COLOURS: Mapping[str, str] = MappingProxyType(
    {
        "card": "#ffffff",
        "ink": "#1f2430",
        "muted": "#5d6675",
        "line": "#e4e7ec",
        "loss": "#b42318",
        # Of the variants: Okabe and Ito's, safe for the colour-blind.
        "none": "#7a7f87",
        "label_consistency": "#009e73",
        "published": "#d55e00",
        "published_best_sigma": "#e69f00",
        "best": "#0072b2",
        "mse": "#cc79a7",
    }
)
"""Colours on a light page by the name of the page's custom property, `--best` for example."""

WIDTH = 5.0
"""Inches: text of ten points is then legible on a phone, where a figure is 350 pixels wide."""

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))
_TAG = re.compile(r"<[^>]+>")
_NUMBER = re.compile(r"-?\d+\.\d+")
_PATH = re.compile(r' (d|points)="([^"]*)"')
# The page says which font, and nothing refers to groups by name.
_DROPPED = re.compile(
    r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>|(?<=>)\s+(?=<)|(?<=<g) id=\"[^\"]*\""
    r"| font-family: [^;\"]*;| transform=\"rotate\(-?0 [^\"]*\"",
    re.DOTALL,
)


def variant_colour(variant: str) -> str:
    """The colour of a variant; members of a Pareto front have that of the best one."""
    return COLOURS.get(variant, COLOURS["best"])


def canvas(height: float, width: float = WIDTH) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes; inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_facecolor(COLOURS["card"])
    axes = figure.add_subplot()
    style(axes)
    return figure, axes


def style(axes: Axes) -> None:
    """Give axes the look of all figures."""
    axes.set_facecolor(COLOURS["card"])
    axes.grid(color=COLOURS["line"], linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=COLOURS["muted"], length=0, labelsize=9)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(color=COLOURS["ink"], fontsize=10)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(COLOURS["muted"])


def legend(axes: Axes, where: Any = "best", **more: Any) -> None:
    """A legend in the colours of the page, if there is anything to explain."""
    if not axes.get_legend_handles_labels()[0]:
        return
    shown = axes.legend(loc=where, labelcolor=COLOURS["ink"], fontsize=9, **more)
    shown.get_frame().set(facecolor=COLOURS["card"], edgecolor="none", alpha=0.85)


def in_percent(*axes: Axis) -> None:
    """Show shares on these axes, such as `axes.xaxis`, in percent."""
    for axis in axes:
        axis.set_major_formatter(PercentFormatter(1.0))


def as_png(figure: Figure) -> bytes:
    """The figure in light colours."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=256)
    return buffer.getvalue()


def as_svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an element for a page, which defines the custom properties of `COLOURS`.

    `name` distinguishes it from other figures on the page; `description` is for those who cannot
    see it. The same figure gives the same text every time.
    """
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    start, drawn = buffer.getvalue().split("<svg", 1)[1].split(">", 1)
    box = re.search(r'viewBox="([^"]*)"', start)
    assert box is not None
    # Only inside of tags: texts have numbers too.
    text = _TAG.sub(_compact, _DROPPED.sub("", drawn))
    label = escape(description, quote=True)
    return f'<svg class="plot" viewBox="{box[1]}" role="img" aria-label="{label}">{text}'


def _compact(tag: re.Match[str]) -> str:
    text = _PATH.sub(lambda found: f' {found[1]}="{_rounded(found[2], 1)}"', tag[0])
    text = _rounded(text, 2)
    for token, value in COLOURS.items():
        text = text.replace(value, f"var(--{token.replace('_', '-')})")
    return text


def _rounded(text: str, digits: int) -> str:
    """Coordinates in fewer digits, a tenth of a point for paths, which nobody can see."""
    return _NUMBER.sub(lambda number: f"{round(float(number[0]), digits):g}", text)
