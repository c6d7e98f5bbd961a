from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from results.curves import summary_row
from results.schema import Row
from results.terminal import round_down, summary_tables
from tests.support.invented import certificate_rows


def printed(rows: Sequence[Row], width: int = 80, **options: Any) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_tables(rows, **options))
    return console.export_text()


def row(setting: str = "digits-10shot", variant: str = "best", tuning: float | None = 0.29) -> Row:
    return summary_row(setting, variant, 9, tuning, 0.9, certificate_rows(variant))


def test_the_table_shows_what_a_variant_certifies() -> None:
    text, best = printed([row()]), row()
    assert "DE-CROP, tuned" in text
    assert f"{best['acr']:.3f}" in text
    assert f"{best['acr_low']:.3f}-{best['acr_high']:.3f}" in text
    assert "0.290" in text
    assert f"{100 * best['certified_accuracy_0_5']:.3g}" in text


def test_nothing_is_cut_off_on_a_terminal_of_80_columns() -> None:
    variants = ("none", "label_consistency", "published", "best")
    rows = [{**row(variant=v), "sigma": 0.123456, "abstained": 0.115} for v in variants]
    text = printed(rows)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    wide = [line.split() for line in printed(rows, width=200).splitlines()[:6]]
    assert [line.split() for line in text.splitlines()[:6]] == wide


def test_every_setting_has_a_table_with_its_name() -> None:
    text = printed([row(), row(variant="none"), row("digits-5shot")])
    assert text.count("digits-10shot") == 1
    assert text.count("digits-5shot") == 1
    assert text.count("sigma") == 2


def test_brackets_in_names_are_not_markup() -> None:
    assert "[red]x" in printed([row("[red]x"), row("y")])


def test_a_missing_tuning_score_is_left_empty() -> None:
    assert "None" not in printed([row(tuning=None)])


def test_the_legend_names_the_objective() -> None:
    text = printed([row()], objective="certified-accuracy@0.5")
    assert "tuning: certified-accuracy@0.5" in text


@pytest.mark.parametrize(
    ("accuracy", "rounded"),
    [(0.9049999, 0.904), (2 / 3, 0.666), (0.9996, 0.999), (0.29, 0.29), (0.0, 0.0), (1.0, 1.0)],
)
def test_an_accuracy_is_rounded_down_to_three_digits(accuracy: float, rounded: float) -> None:
    assert round_down(accuracy) == rounded


@given(images=st.integers(1, 10_000), data=st.data())
def test_what_min_accuracy_can_be_told_is_reached(images: int, data: st.DataObject) -> None:
    accuracy = data.draw(st.integers(0, images)) / images
    assert accuracy - 0.001 <= round_down(accuracy) <= accuracy


def test_the_accuracies_of_the_front_are_never_rounded_up() -> None:
    front = {**row(), "variant": "front-1", "tuning_accuracy": 0.9049999}
    assert "front on the tuning images: 1: 0.904." in " ".join(printed([front]).split())
