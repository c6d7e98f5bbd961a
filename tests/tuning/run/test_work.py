"""The work that a run is expected to be."""

from pathlib import Path

import pytest

from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from tuning.config import RunConfig, make_config
from tuning.run.work import Work, expected_operations, expected_work
from tuning.setting.setting import Setting, make_settings


def made(folder: Path, **flags: object) -> tuple[RunConfig, Setting]:
    config = make_config({"name": "x", "out": folder, "shots": ("3",), **flags})
    (setting,) = make_settings(config)
    return config, setting


def work(folder: Path, **flags: object) -> Work:
    return expected_work(*made(folder, **flags))


def test_a_search_that_stops_no_trial_takes_all_of_them_and_the_baselines(tmp_path: Path) -> None:
    few, more = (work(tmp_path, scheduler="none", trials=n).searched for n in (8, 16))
    assert more - few == pytest.approx(8)
    assert few > 8
    stopped = work(tmp_path, scheduler="asha", trials=16).searched
    assert few - 8 < stopped < more - 4


def test_confirmation_and_certificates_take_what_their_flags_say(tmp_path: Path) -> None:
    plain = work(tmp_path, procedure="fixed", n=1000, n0=100, certify_images=50)
    assert plain.certification_votes == 5 * 50 * 1100
    fewer = work(tmp_path, procedure="adaptive", n=1000, n0=100, certify_images=50)
    assert fewer.certification_votes < plain.certification_votes / 3
    folds = [work(tmp_path, confirm_folds=n) for n in (2, 4)]
    assert folds[1].confirmed == 2 * folds[0].confirmed
    assert folds[1].trained == folds[0].trained
    assert folds[1].confirmation_votes > folds[0].confirmation_votes


def test_every_step_that_progress_shows_has_its_operations(tmp_path: Path) -> None:
    config, setting = made(tmp_path)
    classifier = BaseClassifier(DigitsCNN(), (0.0,), (1.0,))
    found = expected_operations(config, setting, classifier)
    steps = ("search", "confirmation trainings", "confirmation votes", "certification votes")
    assert list(found) == [f"digits-3shot: {step}" for step in steps]
    assert all(operations > 0 for operations in found.values())
