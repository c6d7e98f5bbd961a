from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.small_networks import config, from_file
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier
from trainables.weights.denoiser_file import denoiser_bytes

torch.set_num_threads(1)


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}, {"reversal_strength": 0}], ids=str)
@pytest.mark.parametrize("schedule", ["step", "onecycle"])
def test_the_second_stage_is_a_new_training_from_the_weights_of_the_first(
    classifier: BaseClassifier, images: Tensor, labels: Tensor,
    schedule: str, changes: dict[str, Any],
) -> None:  # fmt: skip
    chosen = config(epochs=6, schedule=schedule, **changes)
    whole = DecropTraining(chosen, classifier, images, labels, 0)
    for _ in range(3):
        whole.train_epoch()
    # A single stage with the discriminator from its beginning.
    alone = chosen.model_copy(update={"epochs": 3, "stages": 1, "discriminator_start": 0})
    second = DecropTraining(
        alone, classifier, images, labels, 0, SharedParts(initial=denoiser_bytes(whole.denoiser))
    )
    # Only the random stream goes on where the first stage has left it.
    second.load_state_dict(second.state_dict() | {"generator": whole.state_dict()["generator"]})
    for _ in range(3):
        assert whole.train_epoch() == second.train_epoch()
    assert denoiser_bytes(whole.denoiser) == denoiser_bytes(second.denoiser)


def test_the_learning_rate_starts_anew(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(epochs=5, batch_size=24, learning_rate=0.1, lr_decay=0.5)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    rates, steps = [], []
    for _ in range(5):
        training.train_epoch()
        adam = training.state_dict()["adam"]
        rates.append(adam["param_groups"][0]["lr"])
        steps.append({int(state["step"]) for state in adam["state"].values()})
    assert rates == pytest.approx([0.1, 0.05, 0.025, 0.1, 0.05])
    assert steps == [{1}, {2}, {3}, {1}, {2}]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
@pytest.mark.parametrize("done", [1, 2, 3])
def test_a_training_that_was_restored_around_the_restart_goes_on_bit_for_bit(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, done: int, ema_decay: float
) -> None:
    chosen = config(ema_decay=ema_decay)
    whole = DecropTraining(chosen, classifier, images, labels, 0)
    for _ in range(done):
        whole.train_epoch()
    restored = DecropTraining(chosen, classifier, images, labels, seed=99)
    restored.load_state_dict(from_file(whole))
    for _ in range(done, 4):
        assert whole.train_epoch() == restored.train_epoch()
    assert denoiser_bytes(whole.denoiser) == denoiser_bytes(restored.denoiser)
