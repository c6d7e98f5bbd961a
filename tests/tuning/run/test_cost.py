"""What a run is going to cost, from a few steps and votes of the real thing."""

from pathlib import Path

import pytest

from trainables.decrop.pace import Pace
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from tuning.config import make_config
from tuning.run import cost
from tuning.run.cost import Cost, expected_cost
from tuning.setting.setting import make_settings


def costs(folder: Path, **flags: object) -> Cost:
    config = make_config({"name": "x", "out": folder, "shots": ("3",), **flags})
    (setting,) = make_settings(config)
    return expected_cost(config, setting, BaseClassifier(DigitsCNN(), (0.0,), (1.0,)), "cpu")


def test_every_phase_takes_time_and_the_folder_takes_room(tmp_path: Path) -> None:
    found = costs(tmp_path)
    assert min(found) > 0
    assert found.seconds == found.search + found.confirmation + found.certification


def test_costs_are_what_was_timed_times_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "training_pace", lambda *arguments: Pace(0.5, 3.0))
    monkeypatch.setattr(cost, "seconds_a_vote", lambda *arguments: 2.0)
    plain = costs(tmp_path, scheduler="none", trials=4, set={"epochs": 10})
    more = costs(tmp_path, scheduler="none", trials=6, set={"epochs": 10})
    (setting,) = make_settings(make_config({"name": "x", "out": tmp_path, "shots": ("3",)}))
    images = len(setting.shots.train_labels)
    # Two more trainings, of 10 steps for each image and its samples.
    assert more.search - plain.search == pytest.approx(2 * images * (10 * 0.5 + 3.0))
    # Votes of five models, all of them or a tenth; of the trainings there are as many.
    fixed, adaptive = (
        costs(tmp_path, procedure=name, n=1000, n0=100, certify_images=20, set={"epochs": 10})
        for name in ("fixed", "adaptive")
    )
    saved = fixed.certification - adaptive.certification
    assert saved == pytest.approx(5 * 20 * 900 * 2.0)
    assert fixed.confirmation == adaptive.confirmation
    # Four of the five have a denoiser, which is trained on all shots for them.
    votes = 5 * 20 * 1100 * 2.0
    assert fixed.certification == pytest.approx(votes + 4 * images * (10 * 0.5 + 3.0))


def test_few_votes_for_a_certificate_mean_few_for_the_choice(tmp_path: Path) -> None:
    def votes(**flags: object) -> int:
        return make_config({"name": "x", "out": tmp_path, **flags}).confirm_votes

    assert votes() == 400
    assert votes(n=300, n0=100) == 300
    assert votes(n=20, n0=10) == 50
    assert votes(n=500, confirm_votes=900) == 900
