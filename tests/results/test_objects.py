"""A run as Python objects."""

from pathlib import Path

import pytest

from results.objects import RunResults
from results.sentences import sentence, statement
from results.store import StoreError
from tests.support.invented import write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("objects") / "demo", ("digits-10shot", "digits-5shot"))


def test_a_run_says_what_was_proved_and_escapes_it_for_a_notebook(folder: Path) -> None:
    run = RunResults(folder)
    for name in run.settings:
        said = sentence(statement(run.verdicts[name]))
        assert f"{name}: {said}" in str(run)
        assert f"<strong>{name}: {said}</strong>" in run._repr_html_()
    assert run.settings == ["digits-10shot", "digits-5shot"]


def test_tables_are_those_in_the_folder(folder: Path) -> None:
    run = RunResults(str(folder))
    summary = run.summary.to_pandas()
    assert set(summary["setting"]) == set(run.settings)
    assert set(summary["variant"]) >= {"none", "best"}
    trials = run.table("trials", "digits-5shot").to_pandas()
    assert len(trials) == 14
    with pytest.raises(ValueError, match=r"there is no table 'trails'; there are .*trials"):
        run.table("trails", "digits-5shot")
    with pytest.raises(ValueError, match="name a setting of the run: digits-10shot, digits-5shot"):
        run.table("trials")


def test_curves_are_a_picture(folder: Path, tmp_path: Path) -> None:
    picture = RunResults(folder).curves("digits-10shot")
    picture.save(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes() == picture._repr_png_()
    assert picture.png.startswith(b"\x89PNG")


def test_the_export_of_the_only_setting_need_not_be_named(tmp_path: Path) -> None:
    run = RunResults(write_run(tmp_path / "demo", ("digits-10shot",)))
    assert run.export() == tmp_path / "demo" / "digits-10shot" / "smoothed_classifier"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no such run folder"):
        RunResults(tmp_path / "nothing")
