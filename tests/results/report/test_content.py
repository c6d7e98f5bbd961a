"""What the page shows beside the tables: pictures, the winner, the cost, and what was certified."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from results import files
from results.examples import write_examples
from results.report.anchors import anchors_for
from results.report.facts import costs
from results.run import load_run
from results.schema import CERTIFICATES, trials_schema
from results.store import read_metadata, read_table, write_json, write_table
from tests.results.conftest import built
from tests.results.test_examples import invented
from tests.support.invented import HYPERPARAMETERS, certificate_rows, trial_rows, write_run
from tests.support.pages import Page
from tests.support.sealing import sealed

SETTING = "digits-10shot"


def shown(run: Path) -> str:
    return " ".join(Page(built(run)).text.split())


@pytest.fixture
def pictured(tmp_path: Path) -> Path:
    """A run with pictures of the first three images, and names of classes."""
    run = write_run(tmp_path / "run")
    write_examples(run / SETTING, invented())
    path = run / SETTING / files.CERTIFICATES
    names = str([f"digit {label}" for label in range(10)]).replace("'", '"')
    known = read_metadata(path) | {"class_names": names}
    known.pop("schema_version")
    write_table(path, read_table(path, CERTIFICATES), CERTIFICATES, known)
    return run


def test_examples_are_shown_with_the_class_and_the_radius(pictured: Path) -> None:
    html = built(pictured)
    page = Page(html)
    # The clean ones, two with noise, and one that is denoised.
    assert len([one for one in page.addresses if one.startswith("data:image/png;")]) == 3 * 4
    text = " ".join(page.text.split())
    rows = {row["image_index"]: row for row in certificate_rows("best")}
    assert f"Clean, with the true class digit {rows[0]['label']}" in text
    assert "DE-CROP, tuned: with noise of sigma 0.375, and denoised" in text
    assert "No denoiser: with noise of sigma 0.12 " in text
    wrong, right = rows[0], rows[3]
    assert f"wrong: digit {wrong['predicted']}, {wrong['radius']:.2f}" in text
    assert f"digit {right['label']}, {right['radius']:.2f}" in text


def test_damaged_examples_are_named_and_left_out(pictured: Path) -> None:
    (pictured / SETTING / files.EXAMPLES).write_text("nothing")
    text = shown(pictured)
    assert f"{pictured / SETTING / files.EXAMPLES}: cannot be read" in text
    assert "Clean, with the true class" not in text


def test_the_winner_is_shown_with_its_values_and_the_command_that_runs_it_again(
    tmp_path: Path,
) -> None:
    run = write_run(tmp_path)
    space = "# Trial 9. Run it again with:\n# decrop launch --space best.yaml --trials 2\nname: b\n"
    (run / SETTING / files.BEST_SPACE).write_text(space)
    text = shown(run)
    published, winner = trial_rows()[0], trial_rows()[9]
    assert "The winning configuration: trial 9" in text
    assert f"w_mmd{winner['w_mmd']:.4g}{published['w_mmd']:.4g}" in text
    assert "no other point beside the baselines: decrop launch --space best.yaml --trials 2" in text
    assert "name: b" in text


def test_without_best_yaml_there_is_no_command(html: str) -> None:
    assert "Run it again" not in html
    assert "The winning configuration" in html


def test_the_cost_has_device_hours_and_how_busy_workers_were(tmp_path: Path) -> None:
    run = write_run(tmp_path, (SETTING, "digits-5shot"))
    found = costs(load_run(run, []))
    assert [cost.phase for cost in found[:4]] == [
        "search", "confirmation", "training", "certification",
    ]  # fmt: skip
    worked = sum(row["seconds"] for row in trial_rows())
    assert found[0].hours == pytest.approx(worked / 3600)
    # Two workers were there for both settings.
    assert found[0].utilisation == pytest.approx(2 * worked / (2 * 900))
    certified = sum(row["seconds"] for row in load_run(run).settings[0].summary)
    assert found[3].hours == pytest.approx(certified / 3600)
    assert (found[1].hours, found[1].utilisation) == (None, None)


def test_images_classifier_and_command_are_described(html: str) -> None:
    text = re.sub(r"\s+", " ", Page(re.sub(r"</t[dh]>", " ", html)).text)
    for said in (
        "decrop launch --shots 10 --name demo",
        "images 8 x 8 pixels, grey",
        "10 classes 0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
        "images to train denoisers 80",
        "images to choose hyperparameters 20",
        "images that are certified, which no trial saw 200",
        "note one file could not be read",
        "network (digits-10shot) DigitsCNN, 12,345 parameters",
        "hash (digits-10shot) c1a5",
    ):
        assert said in text, said


@pytest.mark.parametrize(
    ("setting", "sigma", "labels"),
    [
        ("cifar10-50shot", 0.25, ["Cohen 2019, trained for noise", "Salman 2020, denoiser"]),
        ("cifar10-50shot", 0.5, ["Cohen 2019, trained for noise"]),
        ("cifar10-50shot", 0.12, []),
        ("cifar100-50shot", 0.25, []),
        ("digits-10shot", 0.25, []),
    ],
)
def test_published_curves_stand_only_beside_what_is_comparable(
    tmp_path: Path, setting: str, sigma: float, labels: list[str]
) -> None:
    run = load_run(write_run(tmp_path, (setting,)), [])
    (found,) = run.settings
    rows = [{**row, "sigma": sigma} for row in found.certificates["best"]]
    anchors = anchors_for(run, replace(found, certificates={"best": rows}))
    assert [anchor.label for anchor in anchors] == labels
    # Where it is from is said below the figure.
    assert all(anchor.source for anchor in anchors)


def test_resized_images_are_not_those_of_published_curves(tmp_path: Path) -> None:
    run = write_run(tmp_path, ("cifar10-50shot",))
    config = run / "config.yaml"
    config.write_text(f"{config.read_text()}image_size: 64\n")
    loaded = load_run(sealed(run), [])
    published = loaded.settings[0].certificates["published"]
    setting = replace(loaded.settings[0], certificates={"best": published})
    assert anchors_for(loaded, setting) == []
    assert anchors_for(replace(loaded, config={}), setting)


def test_trials_have_only_the_columns_that_differ(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    path = run / SETTING / files.TRIALS
    rows = [row | {"w_mmd": 4.0, "node": "here", "error": None} for row in trial_rows()]
    write_table(path, rows, trials_schema(HYPERPARAMETERS))
    html = built(run)
    table = html[html.index('<table class="trials">') :]
    headers = re.findall(r'<button type="button">([^<]*)</button>', table)
    assert headers == [
        "Trial", "Retry of", "Origin", "State", "Score", "Clean accuracy", "learning_rate", "sigma",
        "generator", "Epochs", "Time",
    ]  # fmt: skip
    assert "The same in all trials: w_mmd 4, node here." in " ".join(Page(html).text.split())


def test_several_settings_have_an_overview(html: str, tmp_path: Path) -> None:
    assert "Certified accuracy at 0.5 by setting and variant" in html
    assert "digits: certified accuracy at radius 0.5 against the shots" in html
    assert 'id="overview"' not in built(write_run(tmp_path))


def test_a_setting_without_results_is_not_in_the_overview(tmp_path: Path) -> None:
    run = write_run(tmp_path, (SETTING, "digits-5shot"))
    (run / files.SUMMARY).unlink()
    write_json(run / files.MANIFEST, {"settings": {}})
    assert 'by setting and variant"' not in built(run)
