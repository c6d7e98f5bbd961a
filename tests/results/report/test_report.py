import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.comparison import compare
from results.curves import Estimate
from results.report import main
from results.run import load_run
from results.schema import CERTIFICATES, VARIANTS, summary_schema
from results.sentences import NOTHING, details, sentence, statement
from results.store import read_table, write_table
from results.summary import class_rows, write_summary
from results.verdict import judge
from tests.results.conftest import ERROR, built
from tests.support.invented import RADII, certificate_rows, summary_of, write_run
from tests.support.pages import Page
from tests.support.sealing import sealed


def cells(html: str) -> str:
    """Text with a space between the cells of a table."""
    return " ".join(Page(re.sub(r"</t[dh]>|<br>", " ", html)).text.split())


def test_rungs_are_shown_with_who_went_on(html: str) -> None:
    text = cells(html)
    # Ten complete and two pruned trials of the search.
    assert "9 11 9 81.8% 27 9 complete" in text


def test_confirmation_says_on_how_many_folds(html: str) -> None:
    text = cells(html)
    assert (
        "Votes Folds Images 9 search best 0.375 as good 0.310 0.290 0.012 90.0% +0.020 1000 3 150"
        in text
    )
    assert "within one standard error of the highest" in text


def test_an_error_message_is_shown_as_text_not_as_html(html: str) -> None:
    assert "<script>alert" not in html
    assert ERROR in Page(html).text


def test_every_section_of_a_run_is_there(html: str) -> None:
    text = " ".join(Page(html).text.split())
    for fact in (
        "digits-10shot",
        "digits-5shot",
        "alpha = 0.001",
        "Abstentions count as wrong",
        "real arithmetic",
        "Optimism gap",
        "14 trials: 11 complete, 2 pruned, 1 failed.",
        "learning_rate",
        "worker-1",
        "versions.torch",
        "model_hash",
        "SmoothedClassifier.load",
        "runs/demo/digits-5shot/smoothed_classifier",
        "dataset: digits",
    ):
        assert fact in text, fact


def test_the_headline_says_what_was_proved_and_who_won(run: Path, html: str) -> None:
    (setting, _) = load_run(run).settings
    verdict = judge(setting)
    assert verdict is not None
    text = " ".join(Page(html).text.split())
    first = text[text.index("digits-10shot At radius") :]
    assert first.startswith(
        f"digits-10shot {sentence(statement(verdict))} {' '.join(details(verdict))}"
    )
    assert "Score: certified accuracy at 0, 0.25, 0.5, 0.75, averaged" in text
    assert "Radius: no change of an image" in text


def test_figures_show_the_radius_of_the_first_sentence(run: Path, html: str) -> None:
    verdict = judge(load_run(run).settings[0])
    assert verdict is not None
    said = re.match(r"at radius (\S+) ", statement(verdict))
    assert said is not None
    assert f"Certified accuracy at {said[1]} by class" in html


def shown(estimate: Estimate) -> str:
    text = f"{estimate.value:+.3f}[{estimate.low:+.3f}, {estimate.high:+.3f}]"
    return text.replace("-", "\N{MINUS SIGN}")


def test_differences_of_score_accuracies_and_acr_have_paired_intervals(html: str) -> None:
    text = cells(html)
    for name, label in (("none", "No denoiser"), ("published", "DE-CROP, published")):
        best, others = certificate_rows("best"), certificate_rows(name)
        found = compare(best, name, others, RADII)
        columns = [found.score, *found.accuracy.values(), found.acr]
        assert f"{label}better {' '.join(map(shown, columns))}" in text


def test_certified_wrong_and_the_most_frequent_answer_stand_in_the_table(html: str) -> None:
    text, best = cells(html), summary_of("best", certificate_rows("best"))
    right, wrong = best["certified_accuracy_0"], best["certified_wrong_0"]
    joint = best["joint_accuracy_0"]
    assert joint < right
    assert f"{right:.1%}jointly {joint:.1%}wrong {wrong:.1%}" in text
    answer, true = best["most_frequent"], best["most_frequent_true"]
    assert f"{best['most_frequent_share']:.1%}class {answer}{true:.1%} are" in text
    assert "besttrial 9, search" in text


def test_certified_accuracy_by_class_is_shown_class_by_class(html: str) -> None:
    text = cells(html)
    (row, *_) = class_rows({"none": certificate_rows("none")}, ["zero"] * 10, RADII)
    start = f"0 No denoiser {row['images']} {row['answers']} {row['certified_accuracy_0']:.1%}wrong"
    assert start in text
    assert "0 Denoised smoothing" in text


def certified(run: Path, variant: str, rows: list[dict[str, Any]], **winner: Any) -> None:
    """Certify a variant of a run anew, as if it were so from the start."""
    path = run / "digits-10shot" / "certificates.parquet"
    others = [row for row in read_table(path, CERTIFICATES) if row["variant"] != variant]
    write_table(path, others + [row | {"variant": variant} for row in rows], CERTIFICATES)
    summary = read_table(run / "summary.parquet", summary_schema())
    kept = [row for row in summary if row["variant"] != variant]
    write_summary(run / "summary.parquet", [*kept, summary_of(variant, rows, **winner)])


def test_a_difference_whose_interval_holds_zero_is_called_none(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    certified(run, "published", certificate_rows("best"))
    text = cells(built(run))
    assert "cannot be told apart from DE-CROP as published (0.0 points [-2.1, 2.1])" in text
    assert "DE-CROP, publishedcannot be told apart +0.000[\u22120.021, +0.021]" in text


def test_a_baseline_that_won_is_labelled_as_one_and_not_compared_with_itself(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path)
    rows = certificate_rows("label_consistency")
    certified(run, "best", rows, origin="label_consistency", trial=1)
    text = cells(built(run))
    assert "The winner is a baseline, denoised smoothing by label consistency (trial 1" in text
    assert "Best: smoothing" in text
    assert "tuned" not in text
    assert "Best is the same trial as label_consistency" in text
    compared = re.findall(r"([\w,]+)(?:better|worse|cannot be told apart) [+\u2212]", text)
    assert compared == ["denoiser", "published"]


def test_a_winner_that_does_not_beat_guessing_is_no_improvement(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    constant = [row | {"predicted": 4, "radius": 1.5} for row in certificate_rows("best")]
    for variant in VARIANTS:
        sigma = certificate_rows(variant)[0]["sigma"]
        certified(run, variant, [row | {"sigma": sigma} for row in constant])
    text = cells(built(run))
    assert f"N{NOTHING[1:]}." in text
    assert "answers class 4 to 100.0% of the images" in text
    assert text.count("no better than guessing") == 4 + 3
    assert "better than no denoiser" not in text


def test_a_table_of_an_earlier_schema_is_left_out_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = write_run(tmp_path)
    table = pq.read_table(run / "summary.parquet")
    metadata = table.schema.metadata | {b"schema_version": b"1"}
    pq.write_table(table.replace_schema_metadata(metadata), run / "summary.parquet")
    assert main([str(run)]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert "schema version is 1, expected 3" in line
    assert "schema version is 1, expected 3" in Page((run / "report.html").read_text()).text


def test_a_report_about_resized_images_says_what_its_radii_are_about(
    tmp_path: Path, html: str
) -> None:
    assert "resized" not in Page(html).text
    run = write_run(tmp_path)
    config = run / "config.yaml"
    config.write_text(f"{config.read_text()}image_size: 224\n")
    text = Page(built(sealed(run))).text
    assert "All images were resized to 224 x 224 pixels" in text
    assert "resized as this run did it" in text


def test_a_report_is_the_same_every_time(run: Path, html: str) -> None:
    assert built(run) == html


@pytest.mark.parametrize("name", ["trials", "confirmation", "baselines", "certificates"])
def test_a_run_without_an_optional_table_still_has_a_report(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path) / "digits-10shot" / f"{name}.parquet").unlink()
    assert "digits-10shot" in built(tmp_path)


def test_a_run_where_nothing_is_certified_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    write_table(run / "summary.parquet", [], summary_schema())
    (run / "digits-10shot" / "certificates.parquet").unlink()
    text = Page(built(run)).text
    assert "certification has not" in text
    assert "How to read a certificate" not in text


def test_the_command_prints_the_path_of_the_report(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(run)]) == 0
    assert Path(capsys.readouterr().out.strip()) == run / "report.html"


def test_the_command_runs_as_a_module_and_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "results.report", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .*absent: no such run folder\n", done.stderr)


def test_what_a_terminal_must_not_get_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no\x1b[31m\nsuch"]) == 2
    assert capsys.readouterr().err == "error: no\\x1b[31m such: no such run folder\n"
    with pytest.raises(SystemExit):
        main(["run", "--no\x1b[31m\nsuch"])
    assert "error: unrecognized arguments: --no\\x1b[31m such " in capsys.readouterr().err


def test_a_command_without_a_run_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([])
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: the following arguments are required: run (see --help)\n"
    )


def test_results_load_neither_pyplot_nor_what_only_workers_need() -> None:
    script = "import sys, results.report, results.terminal; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert not {"matplotlib.pyplot", "torch", "ray", "optuna"} & set(done.stdout.split())
