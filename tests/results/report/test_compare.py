"""Several runs on one page: what is compared, and what is refused as not comparable."""

import re
from pathlib import Path
from typing import Any

import pytest

from results import files
from results.comparison import compare
from results.report import main
from results.report.compare import write_comparison
from results.schema import CERTIFICATES
from results.store import read_table, write_table
from results.summary import write_summary
from tests.support.invented import (
    RADII,
    certificate_rows,
    summary_of,
    write_manifest,
    write_run,
)
from tests.support.pages import Page
from tests.support.sealing import sealed

SETTING = "digits-10shot"


def with_winner(run: Path, rows: list[dict[str, Any]], setting: str = SETTING) -> Path:
    """A run whose winner has these certificates."""
    write_run(run, (setting,))
    others = read_table(run / setting / files.CERTIFICATES, CERTIFICATES)
    kept = [row for row in others if row["variant"] != "best"]
    best = [{**row, "variant": "best"} for row in rows]
    write_table(run / setting / files.CERTIFICATES, kept + best, CERTIFICATES)
    names = ("none", "label_consistency", "published")
    summary = [summary_of(name, certificate_rows(name), setting) for name in names]
    write_summary(run / files.SUMMARY, [*summary, summary_of("best", best, setting)])
    return run


def text_of(page: Path) -> str:
    return " ".join(Page(page.read_text()).text.split())


def test_winners_are_compared_with_the_first_run_image_by_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = with_winner(tmp_path / "first", certificate_rows("published"))
    second = with_winner(tmp_path / "second", certificate_rows("best"))
    config = second / "config.yaml"
    config.write_text(config.read_text().replace("trials: 14", "trials: 99"))
    out = tmp_path / "page.html"
    assert main([str(first), str(sealed(second)), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    text = text_of(out)
    rows = [{**row, "variant": "best"} for row in certificate_rows("published")]
    found = compare(certificate_rows("best"), "first", rows, RADII)
    score = f"{found.score.value:+.3f} [{found.score.low:+.3f}, {found.score.high:+.3f}] in score"
    assert f"second is better than first: {score}" in text
    assert "first: At radius 0.5 this classifier with its denoiser is provably right on" in text
    table = re.sub(r"</t[dh]>", " ", out.read_text())
    assert "trials 14 99" in " ".join(Page(table).text.split())
    assert "seed" not in text
    # The runs themselves are left as they are.
    assert not (first / files.REPORT).exists()


def test_equal_runs_cannot_be_told_apart(tmp_path: Path) -> None:
    runs = [with_winner(tmp_path / name, certificate_rows("best")) for name in "abc"]
    out, problems = write_comparison(runs, tmp_path / "page.html")
    text = text_of(out)
    assert problems == []
    assert "b cannot be told apart from a" in text
    assert "c cannot be told apart from a" in text
    assert "Configurations" not in text


def test_different_settings_are_compared_if_each_run_has_only_one(tmp_path: Path) -> None:
    runs = [
        with_winner(tmp_path / name, certificate_rows("best"), f"digits-{shots}shot")
        for name, shots in (("few", 5), ("many", 50))
    ]
    out, _ = write_comparison(runs, tmp_path / "page.html")
    assert "digits-5shot and digits-50shot" in text_of(out)


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path: Path) -> None:
    runs = [with_winner(tmp_path / n / "run", certificate_rows("best")) for n in ("old", "new")]
    out, _ = write_comparison(runs, tmp_path / "page.html")
    assert "old/run / new/run" in text_of(out)


def changed(rows: list[dict[str, Any]], **values: Any) -> list[dict[str, Any]]:
    return [{**row, **values} for row in rows]


BEST = certificate_rows("best")


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (changed(BEST, n=500), "n is 500, but 10000 in"),
        (changed(BEST, alpha=0.01), "alpha is 0.01, but 0.001 in"),
        (changed(BEST, n0=50), "n0 is 50, but 100 in"),
        (changed(BEST, procedure="adaptive"), "procedure is adaptive, but fixed in"),
        (BEST[:-1], "its test images are not those of"),
        ([{**row, "image_index": row["image_index"] + 1} for row in BEST], "its test images are"),
        ([{**row, "label": (row["label"] + 1) % 10} for row in BEST], "its test images are not"),
    ],
)
def test_what_is_not_comparable_is_refused_in_one_line(
    tmp_path: Path, rows: list[dict[str, Any]], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = with_winner(tmp_path / "first", BEST)
    # All variants of a run are alike, and only the other run is not.
    second = write_run(tmp_path / "second")
    write_table(second / SETTING / files.CERTIFICATES, rows, CERTIFICATES)
    write_summary(second / files.SUMMARY, [summary_of("best", rows)])
    out = tmp_path / "page.html"
    assert main([str(first), str(second), "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {second}: ")
    assert says in line
    assert not out.exists()


def test_the_most_votes_of_other_procedures_are_those_of_the_configuration(tmp_path: Path) -> None:
    runs = []
    for name, n in (("a", 10_000), ("b", 10_000), ("c", 500)):
        rows = changed(BEST, procedure="adaptive")
        for place, row in enumerate(rows):
            row["n"] = 100 + place + len(name)
        run = write_run(tmp_path / name)
        write_table(run / SETTING / files.CERTIFICATES, rows, CERTIFICATES)
        write_summary(run / files.SUMMARY, [summary_of("best", rows)])
        config = run / "config.yaml"
        config.write_text(config.read_text().replace("n: 10000", f"n: {n}"))
        runs.append(sealed(run))
    write_comparison(runs[:2], tmp_path / "page.html")
    with pytest.raises(ValueError, match=r"c: n is 500, but 10000 in .*a: not comparable"):
        write_comparison(runs, tmp_path / "page.html")


@pytest.mark.parametrize("fact", ["test_images_hash", "image_shape", "class_names"])
def test_other_pixels_behind_the_same_numbers_are_refused(tmp_path: Path, fact: str) -> None:
    first, second = (with_winner(tmp_path / name, BEST) for name in ("first", "second"))
    manifest = second / files.MANIFEST
    manifest.write_text(manifest.read_text().replace('"class_names"', f'"{fact}": 1, "x"'))
    sealed(second)
    with pytest.raises(ValueError, match="second: its test images are not those of"):
        write_comparison([first, second], tmp_path / "page.html")


def test_what_has_no_winner_or_nothing_in_common_is_refused(tmp_path: Path) -> None:
    first, second = (with_winner(tmp_path / name, BEST) for name in ("first", "second"))
    both = write_run(tmp_path / "both", ("digits-3shot", "digits-5shot"))
    with pytest.raises(ValueError, match="no setting in common"):
        write_comparison([first, both], tmp_path / "page.html")
    (second / files.SUMMARY).unlink()
    with pytest.raises(ValueError, match="second: has no certified winner to compare"):
        write_comparison([first, second], tmp_path / "page.html")
    with pytest.raises(ValueError, match="is named twice"):
        write_comparison([first, first], tmp_path / "page.html")


def test_runs_without_a_place_for_the_page_are_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["a", "b"])
    assert ended.value.code == 2
    assert "error: --out: is needed to compare runs" in capsys.readouterr().err


def test_a_single_report_can_be_written_elsewhere(tmp_path: Path) -> None:
    run, out = write_run(tmp_path / "run"), tmp_path / "elsewhere.html"
    assert main([str(run), "--out", str(out)]) == 0
    assert "DE-CROP, tuned" in text_of(out)
    assert not (run / files.REPORT).exists()


def test_a_run_that_goes_on_is_said_to(tmp_path: Path) -> None:
    runs = [with_winner(tmp_path / name, BEST) for name in ("first", "second")]
    write_manifest(runs[1], [SETTING], ended=False)
    out, _ = write_comparison(runs, tmp_path / "page.html")
    assert "second has not ended." in text_of(out)
    assert "first has not ended." not in text_of(out)
