from pathlib import Path

import pytest

from results.files import INSIGHT
from results.run import load_run
from results.schema import CERTIFICATES, summary_schema
from results.store import StoreError, read_table, write_json, write_table
from tests.support.invented import HYPERPARAMETERS, certificate_rows, write_run


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


def test_figures_of_a_setting_come_back_in_their_order(tmp_path: Path) -> None:
    write_run(tmp_path, ("digits-10shot", "digits-5shot"))
    figures = {title: {"data": [{"y": [1, None]}], "layout": {}} for title in ("b", "a")}
    write_json(tmp_path / "digits-5shot" / INSIGHT, figures)
    without, having = load_run(tmp_path).settings
    assert without.insight == {}
    assert list(having.insight.items()) == list(figures.items())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"a": 1}',
        '{"a": {"layout": {}}}',
        '{"a": {"data": {}, "layout": {}}}',
        '{"a": {"data": [], "layout": []}}',
        '{"a": {"data": [NaN], "layout": {}}}',
    ],
)
def test_damaged_figures_are_a_one_line_error(tmp_path: Path, text: str) -> None:
    (write_run(tmp_path) / "digits-10shot" / INSIGHT).write_text(text)
    with pytest.raises(StoreError, match=INSIGHT) as error:
        load_run(tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_variant_is_refused_by_name(tmp_path: Path) -> None:
    rows = [{**row, "variant": "magic"} for row in certificate_rows("best", 3)]
    write_table(write_run(tmp_path) / "digits-10shot" / "certificates.parquet", rows, CERTIFICATES)
    with pytest.raises(StoreError, match="magic"):
        load_run(tmp_path)


def test_no_folder_is_a_one_line_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such run folder"):
        load_run(tmp_path / "absent")
