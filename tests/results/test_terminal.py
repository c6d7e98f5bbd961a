from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from results.run import load_run
from results.schema import Row
from results.sentences import sentence, statement
from results.summary import Candidate, summary_row
from results.terminal import round_down, summary_tables
from results.verdict import Verdict, judge_all
from tests.support.invented import certificate_rows, summary_of, write_run

REST = ["wrong", "top", "ACR"]


def printed(
    rows: Sequence[Row], verdicts: Mapping[str, Verdict] | None = None, width: int = 80
) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(summary_tables(rows, verdicts or {}))
    return console.export_text()


def row(setting: str = "digits-10shot", variant: str = "best", origin: str | None = None) -> Any:
    return summary_of(variant, certificate_rows(variant), setting, origin)


def with_radii(*radii: float) -> Any:
    candidate = Candidate("best", "search", 9)
    return summary_row("digits-10shot", candidate, certificate_rows("best"), radii)


def test_the_table_shows_what_a_variant_certifies() -> None:
    text, best = printed([row()]), row()
    assert "DE-CROP, tuned" in text
    cells = [100 * best["score"], 100 * best["score_low"], 100 * best["score_high"]]
    assert "{:.1f} {:.1f}..{:.1f}".format(*cells) in text
    assert f"{best['acr']:.3f}" in text
    for name in ("certified_accuracy_0_5", "certified_wrong_0", "most_frequent_share"):
        assert f" {100 * best[name]:.3g} " in text


def test_the_verdict_stands_before_the_table(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "demo", ("digits-10shot", "digits-5shot")))
    verdicts = judge_all(run)
    text = printed([r for setting in run.settings for r in setting.summary], verdicts)
    lines = text.splitlines()
    for name, verdict in verdicts.items():
        assert f"{name}: {sentence(statement(verdict))}" in " ".join(text.split())
    assert lines.count("The winner is a proposal of the sampler (trial 9, sigma 0.375).") == 2
    assert "It is better than no denoiser by" in text
    assert max(map(len, lines)) <= 80


def test_denoised_smoothing_that_won_is_not_called_tuned() -> None:
    text = printed([row(origin="label_consistency")])
    assert "Best: smoothing" in text
    assert "tuned" not in text


def test_nothing_is_cut_off_on_a_terminal_of_80_columns() -> None:
    variants = ("none", "label_consistency", "published", "best")
    rows = [{**row(variant=v), "sigma": 0.123456, "score_low": -0.1} for v in variants]
    rows[3]["origin"] = "transferred"
    text = printed(rows)
    assert "…" not in text
    assert max(len(line) for line in text.splitlines()) <= 80
    wide = [line.split() for line in printed(rows, width=200).splitlines()[:6]]
    assert [line.split() for line in text.splitlines()[:6]] == wide


def test_radii_that_do_not_fit_have_a_table_of_their_own() -> None:
    text = printed([with_radii(*(number / 8 for number in range(12)))])
    first, second = text.split("digits-10shot, at further radii")
    assert "r=0 .125 .25" in " ".join(first.split())
    assert "1.25 1.375" in " ".join(second.split())
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "…" not in text


def test_only_the_named_radii_are_shown() -> None:
    header = next(line for line in printed([with_radii(0.25, 1.5)]).splitlines() if "ACR" in line)
    assert header.split() == ["variant", "sigma", "score", "95%", "r=.25", "1.5", *REST]


def test_every_setting_has_a_table_with_its_name() -> None:
    text = printed([row(), row(variant="none"), row("digits-5shot")])
    assert text.count("digits-10shot") == 1
    assert text.count("digits-5shot") == 1
    assert text.count("sigma") == 2


def test_brackets_in_names_are_not_markup() -> None:
    assert "[red]x" in printed([row("[red]x"), row("y")])


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
