"""Settings side by side: which share stands where."""

import pytest

from results.figures.drawing import as_svg
from results.figures.settings import against_shots, heat_map
from results.schema import VARIANTS
from tests.support.invented import certificate_rows, summary_of

LABELS = {variant: variant for variant in VARIANTS}


def test_a_heat_map_has_a_number_in_each_cell_that_is_known() -> None:
    cells = {"a": {"none": 0.25, "best": 0.5}, "b": {"best": 0.75}}
    axes = heat_map(cells, {"none": "None", "best": "Best"}).axes[0]
    found = {(text.get_position(), text.get_text()) for text in axes.texts}
    assert found == {((0, 0), "25%"), ((1, 0), "50%"), ((1, 1), "75%")}
    # A higher share is darker.
    assert [patch.get_alpha() for patch in axes.collections] == pytest.approx([0.15, 0.3, 0.45])


def test_accuracy_against_shots_is_drawn_with_wilsons_interval() -> None:
    rows = {
        shots: [summary_of(name, certificate_rows(name, seed=seed)) for name in VARIANTS]
        for seed, shots in enumerate((5.0, 10.0))
    }
    figure = against_shots(rows, LABELS, 0.5)
    (best,) = [c for c in figure.axes[0].containers if c.get_label() == "best"]
    line, _, (bars,) = best
    assert list(line.get_xdata()) == [5, 10]
    shares = [group[-1]["certified_accuracy_0_5"] for group in rows.values()]
    assert list(line.get_ydata()) == pytest.approx(shares)
    for share, segment in zip(shares, bars.get_segments(), strict=True):
        assert segment[0][1] < share < segment[1][1]
    as_svg(figure, "a", "")
