"""Trainings of confirmation: their files, and what becomes of them when they pause."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.runs import HANGING
from tests.support.signals import handlers_kept, pausing_undone
from tests.trainables.test_trainable import SIZE, make_task
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import Denoiser
from trainables.task import never
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import load_denoiser
from tuning.cluster.ending import ENDING
from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.confirmation.training import Trainer, Training
from tuning.errors import Ended


@pytest.mark.parametrize(
    "change", [{"precision": "bfloat16"}, {"shared_seed": 6}, {"initial": b"weights"}]
)
def test_a_denoiser_of_other_shared_inputs_is_not_taken_for_this_one(
    change: dict[str, Any], tmp_path: Path
) -> None:
    task = make_task()
    one, same, other = (
        Trainer("digits", t, tmp_path, TaskPool(Resources(1, 0.0, 1)))
        for t in (task, replace(task, timeout=9.0), replace(task, **change))
    )
    assert one._source == same._source != other._source


class InTurn:
    """Asked for a pause after an epoch, in every task: as if each host left in turn."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> bool:
        self.calls += 1
        # The first two are before a task trains anything.
        return self.calls > 2


class EndsTheDriver:
    """Sends SIGTERM to the driver, and asks for a pause when it has."""

    def __init__(self, driver: int) -> None:
        self.driver, self.calls = driver, 0

    def __call__(self) -> bool:
        self.calls += 1
        if self.calls == 3:
            os.kill(self.driver, signal.SIGTERM)
        return self.calls >= 3


def trained(folder: Path, asked_to_pause: Callable[[], bool]) -> list[str]:
    """Hashes of the weights of two trainings, by the names of their files."""
    task = replace(make_task(), asked_to_pause=asked_to_pause)
    configs = [DecropConfig(**SIZE, learning_rate=rate) for rate in (0.001, 0.002)]
    trainings = [
        Training(c, task.train_images, task.train_labels, seed=3, label="test") for c in configs
    ]
    with closing(TaskPool(Resources(1, 0.0, 2))) as pool:
        trainer = Trainer("digits", task, folder, pool)

        async def train() -> list[Denoiser | None]:
            # One of them is asked for twice, and trained once.
            wanted = [*trainings, trainings[0]]
            return await asyncio.gather(*(trainer.train(t, Urgency.FINAL_TRAINING) for t in wanted))

        first, second, again = map(weights_hash, filter(None, pool.run(train())))
    assert first == again != second
    assert not list(folder.glob("*.pt"))
    files = sorted(folder.glob("*.safetensors"))
    return [weights_hash(load_denoiser(path.read_bytes())) for path in files]


@pytest.mark.usefixtures("local_ray")
def test_a_training_that_pauses_continues_and_is_the_same(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path / "undisturbed", never)
    assert len(set(undisturbed)) == 2
    assert trained(tmp_path / "paused", InTurn()) == undisturbed


@pytest.mark.usefixtures("local_ray")
def test_a_run_that_ends_keeps_its_trainings(tmp_path: Path) -> None:
    undisturbed = trained(tmp_path / "undisturbed", never)
    with handlers_kept(), pausing_undone(), pytest.raises(Ended) as caught:
        ended(tmp_path / "ended")
    assert caught.value.exit_code == 143
    assert len(list((tmp_path / "ended").glob("*.training.pt"))) == 2
    assert trained(tmp_path / "ended", never) == undisturbed


@ENDING.listening("continue")
def ended(folder: Path) -> None:
    """Trainings that are asked to end."""
    ENDING.grace = HANGING
    trained(folder, EndsTheDriver(os.getpid()))
