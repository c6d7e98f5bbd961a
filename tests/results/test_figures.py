import io
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from PIL import Image

from results.figures import bounds_figure, curves_figure, history_figure, tradeoff_figure
from results.schema import VARIANTS, Row
from tests.support.invented import certificate_rows, summary_of, trial_rows

Colour: TypeAlias = tuple[int, int, int]
CERTIFICATES = {variant: certificate_rows(variant) for variant in VARIANTS}
LABELS = {variant: variant for variant in VARIANTS}


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image.convert("RGB")


def colours(png: bytes) -> dict[Any, int]:
    image = opened(png)
    counts = image.getcolors(image.width * image.height)
    assert counts is not None
    return {colour: count for count, colour in counts}


def test_figures_are_pngs_and_the_same_every_time() -> None:
    for png, again in (
        (curves_figure(CERTIFICATES, LABELS), curves_figure(CERTIFICATES, LABELS)),
        (history_figure(trial_rows()), history_figure(trial_rows())),
    ):
        assert png == again
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
    assert colours(curves_figure(CERTIFICATES, LABELS))[colour] > 100
    assert colours(curves_figure({variant: CERTIFICATES[variant]}, LABELS))[colour] > 100


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


DRAWN = {
    curves_figure: (CERTIFICATES, LABELS),
    bounds_figure: (CERTIFICATES, LABELS),
    history_figure: (trial_rows(),),
    tradeoff_figure: (front_rows(),),
}


@pytest.mark.parametrize("draw", DRAWN)
def test_dark_figures_have_a_dark_ground(draw: Callable[..., bytes]) -> None:
    data = DRAWN[draw]
    assert opened(draw(*data)).getpixel((0, 0)) == (255, 255, 255)
    ground = opened(draw(*data, dark=True)).getpixel((0, 0))
    assert isinstance(ground, tuple)
    assert max(ground) < 64


def test_a_variant_that_certifies_nothing_is_drawn() -> None:
    rows = [{**row, "predicted": -1, "radius": 0.0} for row in CERTIFICATES["none"]]
    opened(curves_figure({"none": rows}, LABELS))


def test_no_certificates_make_an_empty_figure() -> None:
    opened(curves_figure({}, LABELS))


def test_the_front_is_joined_by_a_line_and_the_best_stands_out() -> None:
    with_front, without = (
        colours(tradeoff_figure(rows)) for rows in (front_rows(), front_rows()[:4])
    )
    muted, best = (102, 112, 133), (0, 114, 178)
    # The line beside the labels of the axes, which have its colour too.
    assert with_front[muted] > 1.2 * without[muted]
    assert with_front[best] > without[best] > 50


def test_bounds_are_drawn_as_the_share_of_images_below_them() -> None:
    certain = [{**row, "p_lower": 0.99} for row in CERTIFICATES["best"]]
    # A step at 0.99 alone leaves the ground free; half of the images at 0.3 draw a line across.
    split = [{**row, "p_lower": 0.3 if i % 2 else 0.99} for i, row in enumerate(certain)]
    blue = (0, 114, 178)
    assert (
        colours(bounds_figure({"best": split}, LABELS))[blue]
        > colours(bounds_figure({"best": certain}, LABELS))[blue]
    )


@pytest.mark.parametrize("kept", [0, 1])
def test_a_short_search_is_drawn(kept: int) -> None:
    opened(history_figure(trial_rows()[:kept]))


def test_a_search_without_any_score_is_drawn() -> None:
    rows = [{**row, "state": "failed", "objective": None} for row in trial_rows()]
    opened(history_figure(rows))


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_drawn_as_a_missing_one(score: float) -> None:
    def drawn(score: float | None) -> bytes:
        rows = [row | ({"objective": score} if row["number"] == 3 else {}) for row in trial_rows()]
        return history_figure(rows)

    assert drawn(score) == drawn(None)
    assert colours(drawn(score))[(0, 114, 178)] > 100


@pytest.mark.parametrize(
    ("origin", "colour"),
    [
        ("search", (0, 114, 178)),
        ("start", (0, 114, 178)),
        ("transferred", (0, 114, 178)),
        ("published", (213, 94, 0)),
        ("label_consistency", (0, 158, 115)),
        ("mse", (204, 121, 167)),
    ],
)
def test_trials_of_every_origin_are_drawn(origin: str, colour: Colour) -> None:
    rows = [{**row, "origin": origin} for row in trial_rows()]
    assert colours(history_figure(rows))[colour] > 100
