"""Figures of certificates, as drawn: what an SVG's lines say, and the colours of a picture."""

import io
import re
from typing import Any, TypeAlias

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image

from results.figures import certificates as figures
from results.figures import curves_figure
from results.figures.drawing import COLOURS, as_png, as_svg
from results.report.anchors import PUBLISHED
from results.schema import VARIANTS, Row
from results.summary import class_rows
from tests.support.invented import RADII, certificate_rows, summary_of

Colour: TypeAlias = tuple[int, int, int]
CERTIFICATES = {variant: certificate_rows(variant) for variant in VARIANTS}
LABELS = {variant: variant for variant in VARIANTS}
CLASSES = class_rows(CERTIFICATES, [f"digit {label}" for label in range(10)], RADII)


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.convert("RGB")


def colours(figure: Figure) -> dict[Any, int]:
    image = opened(as_png(figure))
    counts = image.getcolors(image.width * image.height)
    assert counts is not None
    return {colour: count for count, colour in counts}


def line(figure: Figure, label: str) -> tuple[np.ndarray, np.ndarray]:
    (found,) = [one for one in figure.axes[0].lines if one.get_label() == label]
    return np.asarray(found.get_xdata()), np.asarray(found.get_ydata())


def test_curves_are_a_png_and_the_same_every_time() -> None:
    png = curves_figure(CERTIFICATES, LABELS)
    assert png == curves_figure(CERTIFICATES, LABELS)
    assert opened(png).width > 1000


@pytest.mark.parametrize(
    ("variant", "colour"),
    [
        ("none", (122, 127, 135)),
        ("label_consistency", (0, 158, 115)),
        ("published", (213, 94, 0)),
        ("best", (0, 114, 178)),
    ],
)
def test_a_variant_keeps_its_colour_whoever_stands_beside_it(variant: str, colour: Colour) -> None:
    assert colours(figures.curves(CERTIFICATES, LABELS))[colour] > 100
    assert colours(figures.curves({variant: CERTIFICATES[variant]}, LABELS))[colour] > 100


@pytest.mark.parametrize("images", [200, 3000])
def test_a_curve_never_says_more_than_is_certified(images: int) -> None:
    rows = certificate_rows("best", images)
    rng = np.random.default_rng(0)
    # No two radii alike, so that a long curve is drawn on a grid.
    rows = [row | {"radius": row["radius"] * (1 - 1e-3 * rng.random())} for row in rows]
    figure = figures.curves({"best": rows}, LABELS)
    radii, accuracy = line(figure, "best")
    assert figure.axes[0].lines[0].get_drawstyle() == "steps-pre"
    assert len(radii) <= 310
    right = np.array([row["radius"] for row in rows if row["predicted"] == row["label"]])
    for before, at, shown in zip(radii, radii[1:], accuracy[1:], strict=False):
        # The step before a point has the accuracy at it.
        middle = float(np.mean(right >= (before + at) / 2) * len(right) / images)
        assert shown <= middle + 1e-12
    assert accuracy[0] == pytest.approx(np.sum(right >= 0) / images)


def test_published_curves_are_marks_beside_the_run() -> None:
    anchor = PUBLISHED[0]
    radii, accuracy = line(figures.curves(CERTIFICATES, LABELS, [anchor]), anchor.label)
    assert (list(radii), list(accuracy)) == ([0.25, 0.5, 0.75], [0.60, 0.43, 0.27])


def test_a_variant_that_certifies_nothing_is_drawn() -> None:
    rows = [{**row, "predicted": -1, "radius": 0.0} for row in CERTIFICATES["none"]]
    for draw in (figures.curves, figures.bounds, figures.radii):
        as_png(draw({"none": rows}, LABELS))


def test_no_certificates_make_an_empty_figure() -> None:
    as_png(figures.curves({}, LABELS))


def front_rows() -> list[Row]:
    """Summary rows of all variants and a front of three."""
    rows = [summary_of(name, CERTIFICATES[name]) for name in VARIANTS]
    shown = {"score_low": 0.18, "score_high": 0.32}
    return rows + [
        rows[-1]
        | shown
        | {"variant": f"front-{k}", "certified_accuracy_0": 0.95 - k / 20, "score": 0.2 + k / 50}
        for k in (1, 2, 3)
    ]


def test_the_front_is_joined_by_a_line_and_the_best_stands_out() -> None:
    front, alone = figures.tradeoff(front_rows()), figures.tradeoff(front_rows()[:4])
    joined = next(one for one in front.axes[0].lines if to_hex(one.get_color()) == COLOURS["muted"])
    assert np.asarray(joined.get_xdata()).tolist() == pytest.approx([0.90, 0.85, 0.80])
    best = (0, 114, 178)
    assert colours(front)[best] > colours(alone)[best] > 50


@pytest.mark.parametrize("images", [200, 3000])
def test_bounds_are_drawn_as_the_share_of_images_below_them(images: int) -> None:
    rows = certificate_rows("best", images)
    bounds, share = line(figures.bounds({"best": rows}, LABELS), "best")
    values = np.array([row["p_lower"] for row in rows])
    assert len(bounds) <= 302
    for at, shown in list(zip(bounds, share, strict=True))[1:-1]:
        # Among equal bounds, the last one counts all of them.
        assert np.mean(values < at) <= shown <= np.mean(values <= at) + 1e-12
    assert (share[0], share[-1]) == (0, 1)


def test_the_histogram_counts_images_that_are_certified_right() -> None:
    figure = figures.radii(CERTIFICATES, LABELS)
    drawn: list[Any] = list(figure.axes[0].patches)
    (steps,) = [patch for patch in drawn if patch.get_label() == "best"]
    right = np.mean([row["predicted"] == row["label"] for row in CERTIFICATES["best"]])
    assert steps.get_data().values.sum() == pytest.approx(right)


def test_what_images_get_is_right_and_wrong_beside_each_other() -> None:
    rows = [summary_of(name, CERTIFICATES[name]) for name in VARIANTS]
    axes = figures.answers(rows, LABELS, 0.0).axes[0]
    bars: list[Any] = list(axes.patches)
    best = rows[-1]
    assert bars[0].get_width() == best["certified_accuracy_0"]
    assert bars[4].get_x() == best["certified_accuracy_0"]
    assert bars[4].get_width() == pytest.approx(best["certified_wrong_0"])
    most, true = [one for one in axes.lines if not str(one.get_label()).startswith("_")]
    assert np.asarray(most.get_xdata())[0] == best["most_frequent_share"]
    assert np.asarray(true.get_xdata())[0] == best["most_frequent_true"]
    assert [text.get_text() for text in axes.get_yticklabels()] == list(VARIANTS)[::-1]


def test_classes_are_ranked_by_the_best_variant() -> None:
    figure = figures.classes(CLASSES, LABELS, 0.5)
    best = {
        row["name"]: row["certified_accuracy_0_5"] for row in CLASSES if row["variant"] == "best"
    }
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert [best[name] for name in names] == sorted(best.values(), reverse=True)
    shares, places = line(figure, "best")
    by_place = dict(zip(figure.axes[0].get_yticks(), names, strict=True))
    assert {by_place[place]: share for place, share in zip(places, shares, strict=True)} == best


def test_of_many_classes_the_best_and_the_worst_are_drawn() -> None:
    rows = [CLASSES[-1] | {"name": f"c{k}", "certified_accuracy_0_5": k / 100} for k in range(100)]
    names = figures.ranked_classes(rows, 0.5)
    assert names == [f"c{k}" for k in (*range(99, 87, -1), *range(11, -1, -1))]


def test_an_svg_says_its_numbers_in_full_and_its_colours_by_name() -> None:
    labels = LABELS | {"best": "at 0.123456 #0072b2 <b>&"}
    svg = as_svg(figures.curves(CERTIFICATES, labels), "a", 'what "it" shows')
    assert svg == as_svg(figures.curves(CERTIFICATES, labels), "a", 'what "it" shows')
    assert "at 0.123456 #0072b2 &lt;b&gt;&amp;" in svg
    assert 'aria-label="what &quot;it&quot; shows"' in svg
    assert "stroke: var(--label-consistency)" in svg
    assert not re.search(r"<[^>]*(#[0-9a-f]{6}|\d\.\d{3}|https?:)", svg)
    # Figures on the same page must not share their parts.
    other = as_svg(figures.curves(CERTIFICATES, labels), "b", "")
    ids = [set(re.findall(r'id="([^"]+)"', text)) for text in (svg, other)]
    assert ids[0]
    assert not ids[0] & ids[1]
