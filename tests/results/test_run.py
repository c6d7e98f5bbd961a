from pathlib import Path

import pytest

from results.files import FRONT, INSIGHT, TABLES
from results.insight import Insight
from results.run import load_run
from results.schema import CERTIFICATES, summary_schema
from results.store import StoreError, read_table, write_json, write_table
from tests.support.invented import (
    HYPERPARAMETERS,
    certificate_rows,
    write_manifest,
    write_run,
)
from tests.support.sealing import sealed


def test_a_run_comes_back_with_its_settings_variants_and_hyperparameters(tmp_path: Path) -> None:
    run = load_run(write_run(tmp_path / "demo", ("digits-10shot", "digits-5shot")))
    assert run.name == "demo"
    assert run.config["dataset"] == "digits"
    assert run.manifest["seed"] == 0
    assert [setting.name for setting in run.settings] == ["digits-10shot", "digits-5shot"]
    setting = run.settings[0]
    assert list(setting.certificates) == ["none", "label_consistency", "published", "best"]
    assert setting.hyperparameters == list(HYPERPARAMETERS)
    assert setting.metadata["precision"] == "float32"


def test_a_setting_that_was_searched_but_not_certified_is_there(tmp_path: Path) -> None:
    write_run(tmp_path, ("digits-10shot", "digits-5shot"))
    rows = read_table(tmp_path / "summary.parquet", summary_schema())
    write_table(tmp_path / "summary.parquet", rows[:4], summary_schema())
    (tmp_path / "digits-5shot" / "certificates.parquet").unlink()
    setting = load_run(tmp_path).settings[1]
    assert (setting.name, len(setting.trials)) == ("digits-5shot", 14)
    assert not setting.summary
    assert not setting.certificates
    assert not setting.metadata


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "summary.parquet"])
def test_a_run_without_its_main_files_is_refused_by_name(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path) / name).unlink()
    with pytest.raises(StoreError, match=name):
        load_run(tmp_path)


@pytest.mark.parametrize("text", ["[1, 2", "3", "{a: b: c}", "\0"])
@pytest.mark.parametrize("name", ["config.yaml", "manifest.json"])
def test_a_damaged_configuration_is_a_one_line_error(tmp_path: Path, name: str, text: str) -> None:
    (write_run(tmp_path) / name).write_text(text)
    with pytest.raises(StoreError, match=name) as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_what_a_study_has_learnt_comes_back(tmp_path: Path) -> None:
    write_run(tmp_path, ("digits-10shot", "digits-5shot"))
    learnt = Insight("ACR", {"b": 0.75, "a": 0.25}, {3: [(5, 0.25), (9, 0.5)]})
    write_json(tmp_path / "digits-5shot" / INSIGHT, learnt.content())
    without, having = load_run(sealed(tmp_path)).settings
    assert without.insight == {}
    assert Insight.of(having.insight) == learnt
    assert list(Insight.of(having.insight).importances) == ["b", "a"]


def test_figures_of_earlier_versions_are_nothing_learnt(tmp_path: Path) -> None:
    figures = {"Importance": {"data": [{"y": [1]}], "layout": {}}}
    write_json(write_run(tmp_path) / "digits-10shot" / INSIGHT, figures)
    (setting,) = load_run(sealed(tmp_path)).settings
    assert Insight.of(setting.insight) == Insight("objective")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"version": 3, "objective": "", "importances": {}, "scores": []}',
        '{"version": 2, "objective": "", "importances": [], "scores": []}',
        '{"version": 2, "objective": "", "importances": {"a": null}, "scores": []}',
        '{"version": 2, "objective": "", "importances": {"a": NaN}, "scores": []}',
        '{"version": 2, "objective": "", "importances": {}, "scores": [[1, [[2]]]]}',
    ],
)
def test_damaged_insight_is_a_one_line_error(tmp_path: Path, text: str) -> None:
    (write_run(tmp_path) / "digits-10shot" / INSIGHT).write_text(text)
    with pytest.raises(StoreError, match=INSIGHT) as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "config.yaml",
        "manifest.json",
        "summary.parquet",
        *(f"digits-10shot/{name}" for name in (*TABLES, INSIGHT) if name != FRONT),
    ],
)
def test_a_damaged_file_is_left_out_and_named_to_those_who_ask(tmp_path: Path, name: str) -> None:
    path = write_run(tmp_path) / name
    whole = load_run(tmp_path)
    path.write_text("{")
    problems: list[str] = []
    run = load_run(tmp_path, problems)
    (problem,) = problems
    assert problem.startswith(f"{path}: ")
    assert "\n" not in problem
    assert run != whole or name.endswith(INSIGHT)
    assert [setting.name for setting in run.settings] == ["digits-10shot"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("config.yaml", "trials: 14", "trials: 15"),
        ("manifest.json", '"workers": 2', '"workers": 3'),
    ],
)
def test_what_has_changed_since_the_end_is_left_out(
    tmp_path: Path, name: str, old: str, new: str
) -> None:
    """A table has checksums of its own; a digit of these files could change unnoticed."""
    path = write_run(tmp_path) / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    problems: list[str] = []
    load_run(tmp_path, problems)
    assert problems[0] == f"{path}: has changed since the run ended; put it back as it was"
    with pytest.raises(StoreError, match="has changed since the run ended"):
        load_run(tmp_path)
    load_run(tmp_path, changed=True)
    load_run(sealed(tmp_path))


@pytest.mark.parametrize("name", ["config.yaml", "manifest.json", "summary.parquet"])
def test_what_is_not_there_yet_is_no_problem(tmp_path: Path, name: str) -> None:
    write_manifest(write_run(tmp_path), ["digits-10shot"], ended=False)
    (tmp_path / name).unlink()
    problems: list[str] = []
    load_run(tmp_path, problems)
    assert problems == []


@pytest.mark.parametrize("name", ["config.yaml", "summary.parquet", "digits-10shot/trials.parquet"])
def test_what_is_no_longer_there_is_named(tmp_path: Path, name: str) -> None:
    (write_run(tmp_path) / name).unlink()
    problems: list[str] = []
    load_run(tmp_path, problems)
    assert problems == [f"{tmp_path / name}: is missing; put it back"]


def test_a_folder_of_something_else_is_no_run_whatever_is_asked(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(StoreError, match="is not a run folder"):
        load_run(tmp_path, [])


@pytest.mark.parametrize("name", ["../digits-10shot", "a/b", "", "."])
def test_a_manifest_does_not_lead_out_of_the_run(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "run")
    write_manifest(run, ["digits-10shot", name])
    assert [setting.name for setting in load_run(run, []).settings] == ["digits-10shot"]


def test_an_unknown_variant_is_refused_by_name(tmp_path: Path) -> None:
    rows = [{**row, "variant": "magic"} for row in certificate_rows("best", 3)]
    write_table(write_run(tmp_path) / "digits-10shot" / "certificates.parquet", rows, CERTIFICATES)
    with pytest.raises(StoreError, match="magic"):
        load_run(tmp_path)


def test_no_folder_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such run folder"):
        load_run(tmp_path / "absent")
