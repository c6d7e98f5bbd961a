"""Figures of a search: which trials and hyperparameters they show, and where."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch

from results.figures import search
from results.figures.drawing import COLOURS, as_svg
from results.schema import Row
from tests.support.invented import HYPERPARAMETERS, trial_rows


def drawn(axes: Axes) -> list[PathPatch]:
    return [patch for patch in axes.patches if isinstance(patch, PathPatch)]


def dots(figure: Figure, colour: str) -> list[tuple[float, float]]:
    """The points of one colour, each a stroke of no length."""
    found = [p for p in drawn(figure.axes[0]) if to_hex(p.get_edgecolor()) == COLOURS[colour]]
    return [tuple(at) for p in found for at in np.asarray(p.get_path().vertices)[::2].tolist()]


def labels(figure: Figure) -> list[str]:
    return [str(one.get_label()) for one in figure.axes[0].lines]


@pytest.mark.parametrize("kept", [0, 1])
def test_a_short_search_is_drawn(kept: int) -> None:
    as_svg(search.history(trial_rows()[:kept]), "a", "")


def test_a_search_without_any_score_is_drawn() -> None:
    rows = [{**row, "state": "failed", "objective": None} for row in trial_rows()]
    figure = search.history(rows)
    as_svg(figure, "a", "")
    crosses = [one for one in figure.axes[0].lines if one.get_marker() == "x"]
    assert sum(np.size(one.get_xdata()) for one in crosses) == len(rows)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_drawn_as_a_missing_one(score: float) -> None:
    def drawn(score: float | None) -> str:
        rows = [row | ({"objective": score} if row["number"] == 3 else {}) for row in trial_rows()]
        return as_svg(search.history(rows), "a", "")

    assert drawn(score) == drawn(None)


@pytest.mark.parametrize(
    ("origin", "colour"),
    [
        ("search", "best"),
        ("start", "best"),
        ("transferred", "best"),
        ("published", "published"),
        ("published_sigma", "published"),
        ("label_consistency", "label_consistency"),
        ("mse", "mse"),
    ],
)
def test_trials_of_every_origin_are_drawn(origin: str, colour: str) -> None:
    rows = [{**row, "origin": origin} for row in trial_rows()]
    scored = [(row["number"], row["objective"]) for row in rows if row["objective"] is not None]
    assert sorted(dots(search.history(rows), colour)) == scored


def test_the_legend_names_the_origins_that_are_there() -> None:
    shown = [label for label in labels(search.history(trial_rows())) if not label.startswith("_")]
    assert shown == ["best so far", "search", "published values", "label consistency"]


def test_the_incumbent_only_rises_and_only_by_complete_trials() -> None:
    rows = [row | ({"objective": 9.0} if row["state"] == "pruned" else {}) for row in trial_rows()]
    figure = search.history(rows)
    (best,) = [one for one in figure.axes[0].lines if one.get_label() == "best so far"]
    complete = [row["objective"] for row in rows if row["state"] == "complete"]
    heights = np.asarray(best.get_ydata()).tolist()
    assert heights == [*np.maximum.accumulate(complete), max(complete)]


def test_importances_are_bars_with_the_highest_on_top() -> None:
    axes = search.importances({"sigma": 0.7, "w_mmd": 0.2, "width": 0.1}).axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["width", "w_mmd", "sigma"]
    bars: list[Any] = list(axes.patches)
    assert [bar.get_width() for bar in bars] == [0.1, 0.2, 0.7]


def test_slices_show_each_hyperparameter_against_the_score() -> None:
    figure = search.slices(trial_rows(), list(HYPERPARAMETERS), "ACR")
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_xlabel() for axes in shown] == list(HYPERPARAMETERS)
    sigma = shown[list(HYPERPARAMETERS).index("sigma")]
    points = [tuple(at) for p in drawn(sigma) for at in np.asarray(p.get_path().vertices)[::2]]
    scored = [row for row in trial_rows() if row["objective"] is not None]
    places = {0.25: 0, 0.375: 1, 0.5: 2}
    assert sorted(points) == sorted((places[row["sigma"]], row["objective"]) for row in scored)
    assert [text.get_text() for text in sigma.get_xticklabels()] == ["0.25", "0.375", "0.5"]
    as_svg(figure, "a", "")


def values(*given: Any) -> list[Row]:
    base = next(row for row in trial_rows() if row["state"] == "complete")
    return [
        base | {"number": number, "w": value, "objective": number / 10}
        for number, value in enumerate(given)
    ]


def ticks(rows: Sequence[Row]) -> dict[str, float]:
    axes = search.slices(rows, ["w"], "ACR").axes[0]
    texts = [text.get_text() for text in axes.get_xticklabels()]
    return dict(zip(texts, axes.get_xticks(), strict=True))


def test_a_wide_range_is_logarithmic_with_zero_below_it() -> None:
    found = ticks(values(0.0, 0.01, 0.1, 1.0, 0.02, 0.5))
    assert list(found) == ["0", "0.01", "0.1", "1"]
    assert found["0"] < found["0.01"]
    assert found["1"] - found["0.1"] == pytest.approx(found["0.1"] - found["0.01"])


def test_a_narrow_range_is_linear() -> None:
    found = ticks(values(0.2, 0.3, 0.4, 0.5, 0.6))
    assert list(found) == ["0.2", "0.4", "0.6"]
    assert found["0.6"] - found["0.4"] == pytest.approx(found["0.4"] - found["0.2"])


@pytest.mark.parametrize(
    "given", [(True, False, True), ("a", "b", "a"), (1, 2, 4, 1), (-1.0, 0.0, 2.0, 5.0, 6.0)]
)
def test_choices_and_other_values_have_places(given: tuple[Any, ...]) -> None:
    rows = values(*given)
    assert ticks(rows)
    as_svg(search.parallel(rows, ["w"], "ACR"), "a", "")


def test_parallel_coordinates_run_from_the_score_through_the_hyperparameters() -> None:
    rows = values(0.6, 0.5, 0.4, 0.3, 0.2)
    figure = search.parallel(rows, ["w"], "ACR")
    others, best = (np.asarray(p.get_path().vertices) for p in drawn(figure.axes[0]))
    assert len(others) == 4 * 2
    # The highest score is at the top, and its weight is the lowest.
    assert best.tolist() == [[0, 1], [1, 0]]
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["ACR", "w"]


def test_scores_at_rungs_are_drawn_by_state() -> None:
    scores = {0: [(9, 0.2), (27, 0.3)], 1: [(9, 0.1)], 2: [(9, 0.25), (27, 0.35)]}
    figure = search.rung_scores(scores, {0: "complete", 1: "pruned", 2: "complete"}, "ACR")
    assert sorted(dots(figure, "best"))[-1] == (27, 0.35)
    assert (9, 0.1) in dots(figure, "muted")
    assert {"pruned", "complete"} <= set(labels(figure))


def test_the_front_of_trials_shows_complete_ones_by_both_scores() -> None:
    figure = search.trial_front(trial_rows(), "ACR")
    complete = [row for row in trial_rows() if row["state"] == "complete"]
    points = dots(figure, "best") + dots(figure, "published") + dots(figure, "label_consistency")
    assert sorted(points) == sorted((row["accuracy"], row["objective"]) for row in complete)
