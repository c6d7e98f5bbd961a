import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.small_networks import config, from_file
from trainables.decrop.config import BASELINES
from trainables.decrop.training import DecropTraining
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.weights.denoiser_file import denoiser_bytes

torch.set_num_threads(1)
Weights = dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]
# One step an epoch, so that the weights after each step can be seen.
WHOLE = {**BASELINES["label_consistency"], "batch_size": 24, "epochs": 6, "lr_decay": 1.0}


def weights(denoiser: Denoiser) -> Weights:
    return {n: p.detach().double().numpy().copy() for n, p in denoiser.named_parameters()}


def statistics(denoiser: Denoiser) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in denoiser.named_buffers()}


@pytest.mark.parametrize("decay", [0.1, 0.3, 0.999])
def test_the_denoiser_is_the_moving_average_of_its_weights(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, decay: float
) -> None:
    last = DecropTraining(config(**WHOLE), classifier, images, labels, 0)
    averaged = DecropTraining(config(**WHOLE, ema_decay=decay), classifier, images, labels, 0)
    expected = weights(last.denoiser)
    for step in range(1, 7):
        assert last.train_epoch() == averaged.train_epoch()
        held = min(decay, (step + 1) / (step + 10))
        new = weights(last.denoiser)
        expected = {name: held * expected[name] + (1 - held) * new[name] for name in new}
        for name, found in weights(averaged.denoiser).items():
            assert np.allclose(found, expected[name], rtol=0, atol=1e-6), name
        for name, tensor in statistics(averaged.denoiser).items():
            assert torch.equal(tensor, statistics(last.denoiser)[name]), name
    moved = [np.abs(expected[name] - weights(last.denoiser)[name]).max() for name in expected]
    assert max(moved) > 1e-4


def test_the_average_counts_steps_not_epochs(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(**WHOLE | {"batch_size": 8}, ema_decay=0.9)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    training.train_epoch()
    assert training.state_dict()["updates"] == 3


def test_without_a_decay_the_denoiser_has_the_last_weights(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    training = DecropTraining(config(**WHOLE, ema_decay=0), classifier, images, labels, 0)
    for _ in range(3):
        before = denoiser_bytes(training.denoiser)
        training.train_epoch()
        assert denoiser_bytes(training.denoiser) != before
        state = training.state_dict()
        for name, tensor in training.denoiser.state_dict().items():
            assert torch.equal(tensor, state["network"][name])


@pytest.mark.parametrize("done", [0, 2])
def test_a_restored_training_goes_on_with_its_average(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, done: int
) -> None:
    chosen = config(ema_decay=0.95, schedule="onecycle")
    whole = DecropTraining(chosen, classifier, images, labels, 0)
    for _ in range(done):
        whole.train_epoch()
    restored = DecropTraining(chosen, classifier, images, labels, seed=99)
    restored.load_state_dict(from_file(whole))
    assert denoiser_bytes(whole.denoiser) == denoiser_bytes(restored.denoiser)
    for _ in range(done, 4):
        assert whole.train_epoch() == restored.train_epoch()
        assert denoiser_bytes(whole.denoiser) == denoiser_bytes(restored.denoiser)


def test_what_is_done_with_the_average_does_not_touch_the_training(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    runs = []
    for disturbed in (False, True):
        chosen = config(**WHOLE, ema_decay=0.5)
        training = DecropTraining(chosen, classifier, images, labels, 0)
        losses = []
        for _ in range(4):
            losses.append(training.train_epoch())
            if disturbed:
                training.denoiser.eval()(images)
                with torch.no_grad():
                    next(training.denoiser.parameters()).zero_()
        runs.append(losses)
    assert runs[0] == runs[1]
