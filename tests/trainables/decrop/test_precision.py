from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.support.small_networks import config
from trainables.acceleration.voting import Precision
from trainables.data.datasets import Dataset
from trainables.decrop import losses
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
ALL: dict[str, Any] = {"w_mse": 1.0, "stages": 1, "discriminator_start": 0.0}
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
ROUNDED = SharedParts(precision="bfloat16")


def activations(module: nn.Module) -> set[torch.dtype]:
    """The types of what the convolutions in `module` give from now on."""
    seen: set[torch.dtype] = set()
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda *a: seen.add(a[-1].dtype))
    return seen


@pytest.mark.parametrize("kind", ["dncnn", "memnet", "unet"])
def test_bfloat16_trains_to_nearly_the_same_losses(
    classifier: BaseClassifier, digits: Dataset, kind: str
) -> None:
    images, labels = digits.train.load(range(50)), digits.train.labels[:50]
    histories = []
    for precision in PRECISIONS:
        chosen = config(
            **ALL, denoiser=kind, memory_blocks=1, residual_blocks=1, levels=2, width=8,
            epochs=6, batch_size=25, learning_rate=0.002,
        )  # fmt: skip
        shared = SharedParts(precision=precision)
        training = DecropTraining(chosen, classifier, images, labels, 0, shared)
        histories.append([training.train_epoch() for _ in range(6)])
    for exact, near in zip(*histories, strict=True):
        assert list(near) == list(exact)
        for name, value in exact.items():
            assert near[name] == pytest.approx(value, rel=0.05, abs=0.03), name
    assert histories[0] != histories[1]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_convolutions_compute_in_the_precision_of_the_training(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, precision: Precision
) -> None:
    shared = SharedParts(precision=precision)
    training = DecropTraining(config(**ALL), classifier, images, labels, 0, shared)
    expected = {getattr(torch, precision)}
    denoiser, frozen = activations(training.denoiser), activations(training._classifier)
    training.train_epoch()
    assert denoiser == frozen == expected


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_weights_and_the_evaluated_denoiser_stay_in_float32(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, ema_decay: float
) -> None:
    chosen = config(**ALL, ema_decay=ema_decay)
    training = DecropTraining(chosen, classifier, images, labels, 0, ROUNDED)
    training.train_epoch()
    for tensor in (*training.denoiser.parameters(), *training.denoiser.buffers()):
        assert tensor.dtype == (torch.float32 if tensor.is_floating_point() else torch.int64)
    seen = activations(training.denoiser)
    assert training.denoiser.eval()(images).dtype == torch.float32
    assert seen == {torch.float32}
    assert all(view.dtype == torch.float32 for view in training.views)


def test_losses_are_computed_in_float32(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    chosen = config(**ALL, batch_size=24)
    training = DecropTraining(chosen, classifier, images, labels, 0, ROUNDED)
    training.train_epoch()
    terms = training.train_epoch()
    assert len(terms) == 5
    for name, value in terms.items():
        assert torch.tensor(value).bfloat16().item() != value, name


def test_what_the_losses_are_computed_from_is_float32(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[torch.dtype]] = {}

    def watch(module: object, name: str) -> None:
        original = getattr(module, name)

        def watched(*inputs: Tensor) -> Tensor:
            seen.setdefault(name, set()).update(tensor.dtype for tensor in inputs)
            loss: Tensor = original(*inputs)
            return loss

        monkeypatch.setattr(module, name, watched)

    for name in ("label_consistency", "logit_similarity", "mmd"):
        watch(losses, name)
    watch(F, "mse_loss")
    chosen = config(**(ALL | {"w_mse": 1.0}))
    DecropTraining(chosen, classifier, images, labels, 0, ROUNDED).train_epoch()
    assert set(seen) == {"label_consistency", "logit_similarity", "mmd", "mse_loss"}
    assert set.union(*seen.values()) == {torch.float32}
