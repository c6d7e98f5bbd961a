import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from results.report import build_report, compare, main
from results.schema import CERTIFICATES, SUMMARY, VARIANTS
from results.store import read_table, write_table
from tests.results.invented import certificate_rows, scores, write_run

ERROR = "<script>alert(1)</script> & loss\nis nan"


class Page(HTMLParser):
    """Text and loaded addresses of a page."""

    def __init__(self, html):
        super().__init__()
        self.addresses, self.tags, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.addresses += [v for k, v in attributes if k in {"src", "srcset", "href", "data"}]

    def handle_data(self, data):
        self.text += data


def built(run):
    return build_report(run).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(
        tmp_path_factory.mktemp("runs") / "demo", ("digits-10shot", "digits-5shot"), ERROR
    )


@pytest.fixture(scope="module")
def html(run):
    return built(run)


def test_a_report_loads_nothing_from_anywhere(html):
    page = Page(html)
    assert len(page.addresses) == 8
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not re.search(r"url\(|@import|https?://", html)


def test_an_error_message_is_shown_as_text_not_as_html(html):
    assert "<script>" not in html
    assert ERROR in Page(html).text


def test_every_section_of_a_run_is_there(html):
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


def test_the_headline_gives_the_paired_gain_over_each_other_variant(html):
    sentence = " ".join(Page(html).text.split())
    for gain in compare({name: certificate_rows(name) for name in VARIANTS}):
        interval = f"[{gain.gain.low:+.3f}, {gain.gain.high:+.3f}]"
        assert f"{gain.gain.value:+.3f} {interval} against" in sentence


def test_gains_are_paired_by_image_not_by_row_order():
    groups = {"best": certificate_rows("best"), "none": certificate_rows("none")[::-1]}
    (comparison,) = compare(groups)
    assert comparison.gain.value == pytest.approx(scores("best").mean() - scores("none").mean())
    assert comparison.verdict == "gain"


def test_a_difference_whose_interval_holds_zero_is_called_unclear(tmp_path):
    run = write_run(tmp_path)
    path = run / "digits-10shot" / "certificates.parquet"
    rows = [row for row in read_table(path, CERTIFICATES) if row["variant"] != "published"]
    twin = [{**row, "variant": "published"} for row in certificate_rows("best")]
    write_table(path, rows + twin, CERTIFICATES)
    assert "+0.000 [+0.000, +0.000] against the published hyperparameters (no clear" in " ".join(
        Page(built(run)).text.split()
    )


def test_variants_on_different_images_are_not_compared():
    with pytest.raises(ValueError, match="different images"):
        compare({"best": certificate_rows("best"), "none": certificate_rows("none", 5)})


def test_a_report_is_the_same_every_time(run, html):
    assert built(run) == html


@pytest.mark.parametrize("name", ["trials", "confirmation", "baselines", "certificates"])
def test_a_run_without_an_optional_table_still_has_a_report(tmp_path, name):
    (write_run(tmp_path) / "digits-10shot" / f"{name}.parquet").unlink()
    assert "digits-10shot" in built(tmp_path)


def test_a_run_where_nothing_is_certified_says_so(tmp_path):
    run = write_run(tmp_path)
    write_table(run / "summary.parquet", [], SUMMARY)
    (run / "digits-10shot" / "certificates.parquet").unlink()
    text = Page(built(run)).text
    assert "not complete" in text
    assert "How to read a certificate" not in text


def test_the_command_prints_the_path_of_the_report(run, capsys):
    assert main([str(run)]) == 0
    assert Path(capsys.readouterr().out.strip()) == run / "report.html"


def test_the_command_runs_as_a_module_and_says_in_one_line_what_is_wrong(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "results.report", str(tmp_path / "absent")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert re.fullmatch(r"error: .*absent: no such run folder\n", done.stderr)


@pytest.mark.parametrize("name", ["summary.parquet", "digits-10shot/trials.parquet"])
def test_a_damaged_table_is_one_line_and_leaves_the_old_report(tmp_path, capsys, name):
    run = write_run(tmp_path)
    old = built(run)
    (run / name).write_text("not a table")
    assert main([str(run)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert name in error
    assert (run / "report.html").read_text(encoding="utf-8") == old


def test_results_load_neither_pyplot_nor_what_only_workers_need():
    script = "import sys, results.report, results.terminal; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )
    assert not {"matplotlib.pyplot", "torch", "ray", "optuna"} & set(done.stdout.split())
