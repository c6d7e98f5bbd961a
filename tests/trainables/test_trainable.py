import faulthandler
import math
import subprocess
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.trap import Trap
from trainables.data.datasets import load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import draw_shots
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import MemoryStore
from trainables.decrop.training import DecropTraining
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.objective import Objective
from trainables.smoothing.showing import SHOWN
from trainables.task import TrialTask
from trainables.trainable import DecropTrainable

SIZE = {"depth": 3, "width": 4, "crop_padding": 1, "flip": False, "epochs": 4, "batch_size": 8}


@pytest.fixture
def task() -> TrialTask:
    return make_task()


def make_task(timeout: float | None = None) -> TrialTask:
    torch.manual_seed(0)
    shots = draw_shots(load_dataset("digits"), ShotCount("3"), seed=0)
    return TrialTask(
        classifier=BaseClassifier(DigitsCNN()),
        train_images=shots.train_images,
        train_labels=shots.train_labels,
        tuning_images=shots.tuning_images,
        tuning_labels=shots.tuning_labels,
        objective=Objective(),
        tuning_votes=60,
        n0=100,
        n=1000,
        alpha=0.01,
        shared_seed=5,
        rungs=(2, 4),
        samples=MemoryStore(),
        initial=None,
        precision="float32",
        device="cpu",
        threads=1,
        gpu_share=0.0,
        timeout=timeout,
    )


def trial(number: int, **hyperparameters: Any) -> dict[str, Any]:
    config = DecropConfig(**{**SIZE, **hyperparameters})
    return {
        "setting": "x",
        "number": number,
        "label": f"{number:03d} search",
        "best": {},
        "seed": 7,
        "hyperparameters": config,
        "checkpoints": [],
    }


def start(config: dict[str, Any], task: TrialTask) -> DecropTrainable:
    """The trainable, given the task as `tune.with_parameters` gives it, but without a Ray."""

    class Started(DecropTrainable):
        def setup(self, config: dict[str, Any], *_: object, **__: object) -> None:
            super().setup(config, {"x": task})

    return Started(config)


def comparable(result: dict[str, Any]) -> dict[str, Any]:
    return {k: result[k] for k in ("objective", "epochs", "losses", "done", "error")}


def train(trainable: DecropTrainable) -> dict[str, Any]:
    """Up to the next rung."""
    result: dict[str, Any] = trainable.train()  # type: ignore[no-untyped-call]
    return result


def finish(trainable: DecropTrainable) -> list[dict[str, Any]]:
    results = [train(trainable)]
    while not results[-1]["done"]:
        results.append(train(trainable))
    return [comparable(result) for result in results]


def test_trial_reports_at_each_rung(task: TrialTask) -> None:
    results = finish(start(trial(3), task))
    assert [r["epochs"] for r in results] == [2, 4]
    assert [len(r["losses"]) for r in results] == [2, 2]


def test_a_result_has_the_learning_rate_of_each_epoch(task: TrialTask) -> None:
    trainable = start(trial(1, schedule="cosine", learning_rate=1e-3, stages=1), task)
    first, second = train(trainable), train(trainable)
    rates = first["learning_rates"] + second["learning_rates"]
    assert len(rates) == len(first["losses"] + second["losses"]) == 4
    assert rates == sorted(rates, reverse=True)
    assert 0 < rates[-1] < rates[0] < 1e-3


def test_only_what_is_better_than_known_before_comes_with_images(task: TrialTask) -> None:
    known = start(trial(1) | {"best": {2: 2.0, 4: -2.0}}, task)
    assert train(known)["denoised"] is None
    images = train(known)["denoised"]
    assert images.shape == (3, SHOWN, 1, 8, 8)
    assert train(start(trial(1), task))["denoised"] is not None


def test_a_worker_says_what_it_does_in_the_title_of_its_process(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles: list[str] = []
    monkeypatch.setattr("trainables.trainable.ray.is_initialized", lambda: True)
    monkeypatch.setattr("trainables.trainable.setproctitle", titles.append)
    trainable = start(trial(1), task)
    score = train(trainable)["objective"]
    train(trainable)
    assert titles == [
        "ray::x: 001 search, epoch 1 of 4",
        "ray::x: 001 search, epoch 2 of 4",
        f"ray::x: 001 search, epoch 3 of 4, score {score:.3f}",
        f"ray::x: 001 search, epoch 4 of 4, score {score:.3f}",
    ]


def test_images_to_show_change_no_result(task: TrialTask) -> None:
    plain = start(trial(1) | {"best": {2: 2.0, 4: 2.0}}, task)
    shown = start(trial(1), task)
    for _ in task.rungs:
        assert comparable(train(plain)) == comparable(train(shown))


def test_reused_actor_gives_the_result_of_a_fresh_one(task: TrialTask) -> None:
    reused = start(trial(1, sigma=0.5), task)
    train(reused)
    assert reused.reset(trial(2))  # type: ignore[no-untyped-call]
    fresh = start(trial(2), task)
    assert finish(reused) == finish(fresh)


def test_the_previous_training_is_gone_before_the_next_one_is_made(
    task: TrialTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    reused = start(trial(1), task)
    train(reused)
    previous, original, alive = weakref.ref(reused.training), TrialTask.training, []

    def watched(*inputs: Any) -> DecropTraining:
        alive.append(previous() is not None)
        return original(*inputs)

    monkeypatch.setattr(TrialTask, "training", watched)
    assert reused.reset(trial(2))  # type: ignore[no-untyped-call]
    assert alive == [False]


def test_restored_trial_goes_on_as_if_nothing_had_happened(task: TrialTask, tmp_path: Path) -> None:
    undisturbed = finish(start(trial(1), task))
    first = start(trial(1), task)
    train(first)
    (tmp_path / "checkpoint").mkdir()
    first.save_checkpoint(str(tmp_path / "checkpoint"))
    second = start(trial(1), task)
    second.load_checkpoint(str(tmp_path / "checkpoint"))
    assert comparable(train(second)) == undisturbed[-1]


class Asked:
    """Asks for a pause at the `at`-th time that it is called, and whenever it is called again."""

    def __init__(self, at: int) -> None:
        self.left = at

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0


# Before anything, in the middle of a rung's epochs, before its score, and before the next rung.
@pytest.mark.parametrize(("at", "epochs", "scored"), [(1, 0, 0), (2, 1, 0), (3, 2, 0), (5, 3, 2)])
def test_a_trial_that_pauses_goes_on_as_if_nothing_had_happened(
    task: TrialTask, tmp_path: Path, at: int, epochs: int, scored: int
) -> None:
    undisturbed = finish(start(trial(1), task))
    first = start(trial(1), replace(task, asked_to_pause=Asked(at)))
    results = [train(first)]
    while not results[-1]["paused"]:
        results.append(train(first))
    paused = results.pop()
    assert (paused["epochs"], paused["done"], paused["error"]) == (epochs, False, "")
    assert math.isnan(paused["objective"])
    assert first.scored == scored
    # It is not trained further until somebody restarts it.
    assert train(first)["epochs"] == epochs
    first.save_checkpoint(str(tmp_path))
    restored = start(trial(1), task)
    restored.load_checkpoint(str(tmp_path))
    resumed = start(trial(1) | {"checkpoints": [str(tmp_path / "training.pt")]}, task)
    for second in (restored, resumed):
        after = finish(second)
        together = [comparable(result) for result in results] + after
        assert [r["objective"] for r in together] == [r["objective"] for r in undisturbed]
        losses = [loss for r in (*results, paused, *after) for loss in r["losses"]]
        assert losses == [loss for r in undisturbed for loss in r["losses"]]


def test_a_new_attempt_goes_on_from_the_latest_readable_checkpoint(
    task: TrialTask, tmp_path: Path
) -> None:
    undisturbed = finish(start(trial(1), task))
    first = start(trial(1), task)
    train(first)
    first.save_checkpoint(str(tmp_path))
    (tmp_path / "torn.pt").write_bytes((tmp_path / "training.pt").read_bytes()[:5000])
    files = [str(tmp_path / name) for name in ("gone.pt", "torn.pt", "training.pt")]
    second = start(trial(2) | {"checkpoints": files}, task)
    assert finish(second) == undisturbed[1:]
    train(first)
    first.save_checkpoint(str(tmp_path))
    assert finish(start(trial(4) | {"checkpoints": files}, task)) == [
        undisturbed[1] | {"losses": []}
    ]
    # The first attempt's time is on its own account.
    assert 0 < second.seconds < 60
    assert finish(start(trial(3) | {"checkpoints": files[:2]}, task)) == undisturbed


def test_a_checkpoint_that_would_execute_code_is_passed_over(
    task: TrialTask, tmp_path: Path
) -> None:
    control, sentinel = tmp_path / "control", tmp_path / "sentinel"
    torch.save({"training": Trap(control)}, tmp_path / "control.pt")
    torch.load(tmp_path / "control.pt", weights_only=False)
    assert control.exists()
    torch.save({"training": Trap(sentinel)}, tmp_path / "training.pt")
    config = trial(1) | {"checkpoints": [str(tmp_path / "training.pt")]}
    assert finish(start(config, task)) == finish(start(trial(1), task))
    assert not sentinel.exists()


def test_loss_that_is_no_number_ends_the_trial_with_its_name(task: TrialTask) -> None:
    torch.nn.init.constant_(list(task.classifier.parameters())[-2], float("nan"))
    (result,) = finish(start(trial(1), task))
    assert "label_consistency became nan in epoch 1" in result["error"]


HANGING = """
import sys, time
from tests.trainables.test_trainable import make_task, start, trial
trainable = start(trial(1), make_task(timeout=0.5))
trainable.training.train_epoch = lambda: time.sleep(60)
trainable.train()
"""


def test_a_worker_that_hangs_ends_itself_and_shows_where() -> None:
    command = [sys.executable, "-c", HANGING]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "Timeout" in ended.stderr
    assert "trainable.py" in ended.stderr


def test_a_step_takes_its_time_out_with_it_even_if_it_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock: list[object] = []
    arm, disarm = "dump_traceback_later", "cancel_dump_traceback_later"
    monkeypatch.setattr(faulthandler, arm, lambda seconds, exit: clock.append((seconds, exit)))
    monkeypatch.setattr(faulthandler, disarm, lambda: clock.append("cancelled"))
    patient = start(trial(1), make_task(timeout=0.5))
    finish(patient)
    assert clock == 2 * [(0.5, True), "cancelled"]
    clock.clear()

    def fail() -> None:
        raise MemoryError("no room")

    monkeypatch.setattr(patient.training, "train_epoch", fail)
    patient.training.epoch = 0
    with pytest.raises(MemoryError):
        train(patient)
    assert clock == [(0.5, True), "cancelled"]
    clock.clear()
    finish(start(trial(1), make_task()))
    assert clock == 2 * ["cancelled"]
