from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.small_networks import config
from trainables.acceleration.voting import Precision
from trainables.decrop import training as module
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
# Batches of nine and eight images, and everything that a step can hold.
CHOSEN: dict[str, Any] = {
    "epochs": 6, "batch_size": 9, "equal_batches": True, "w_mse": 1.0, "ema_decay": 0.9,
}  # fmt: skip


class Waiting(nn.Module):
    """A network that looks at a number, for which a GPU has to be waited for."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        assert float(images.detach().abs().sum()) > 0
        logits: Tensor = self.network(images)
        return logits


def train(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, precision: Precision = "float32"
) -> tuple[DecropTraining, list[dict[str, float]]]:
    shared = SharedParts(precision=precision)
    training = DecropTraining(config(**CHOSEN), classifier, images, labels, 0, shared)
    return training, [training.train_epoch() for _ in range(training.config.epochs)]


def recorded(training: DecropTraining) -> list[bool]:
    """Of each batch size, whether a GPU repeats its pass by itself."""
    return ["forward" in vars(passing) for passing in training._passes.values()]


def test_on_a_cpu_passes_are_run_as_they_are(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    more = torch.cat((images, images[:1])), torch.cat((labels, labels[:1]))
    training, losses = train(classifier, *more)
    assert recorded(training) == [False, False]
    assert set(losses[0]) == {"label_consistency", "mse", "logit_similarity", "mmd"}
    assert set(losses[-1]) == {*losses[0], "domain"}


class Gpu:
    """Stands for a GPU that can record passes of up to `most` images."""

    def __init__(self, most: int, error: Exception) -> None:
        self.most, self.error = most, error
        self.tried: list[int] = []

    def record(self, passing: nn.Module, inputs: tuple[Tensor, ...], **how: Any) -> None:
        self.tried.append(len(inputs[0]))
        passing(*inputs)
        if len(inputs[0]) > self.most:
            try:
                raise self.error
            finally:
                # As a recording ends in which something failed.
                raise RuntimeError("operation failed due to a previous error during capture")
        vars(passing)["forward"] = passing.forward


def start_on(
    gpu: Gpu, classifier: BaseClassifier, images: Tensor, labels: Tensor, patch: pytest.MonkeyPatch
) -> DecropTraining:
    patch.setattr(torch.cuda, "make_graphed_callables", gpu.record)
    more = torch.cat((images, images[:1])), torch.cat((labels, labels[:1]))
    training = DecropTraining(config(**CHOSEN), classifier, *more, 0)
    training._recording = True
    return training


NO_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def test_passes_of_all_sizes_are_recorded(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(most=9, error=NO_MEMORY)
    training = start_on(gpu, classifier, images, labels, monkeypatch)
    training.train_epoch()
    assert recorded(training) == [True, True]
    assert sorted(gpu.tried) == [8, 9]


def test_without_memory_for_recordings_none_is_kept_which_is_said(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = start_on(Gpu(0, NO_MEMORY), classifier, images, labels, monkeypatch)
    with pytest.warns(UserWarning, match="not enough to record a step of 9 images"):
        losses = [training.train_epoch() for _ in range(3)]
    assert recorded(training) == [False, False]
    monkeypatch.undo()
    # Warming up left no trace.
    more = torch.cat((images, images[:1])), torch.cat((labels, labels[:1]))
    _, expected = train(classifier, *more)
    assert losses == expected[:3]


def test_a_second_size_without_memory_takes_that_of_the_first(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(8, NO_MEMORY)
    training = start_on(gpu, classifier, images, labels, monkeypatch)
    # Batches of nine come first; here those of eight.
    small, large = torch.rand(8, *images.shape[1:]), torch.rand(9, *images.shape[1:])
    training._passing(small, small.repeat(3, 1, 1, 1))
    assert recorded(training) == [True]
    with pytest.warns(UserWarning, match="a step of 9 images"):
        training._passing(large, large.repeat(3, 1, 1, 1))
    training._passing(small, small.repeat(3, 1, 1, 1))
    assert recorded(training) == [False, False]
    assert len(gpu.tried) == 2


@pytest.mark.filterwarnings("error")
def test_a_classifier_that_cannot_be_recorded_is_no_lack_of_memory(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gpu = Gpu(0, ValueError("a value was read"))
    training = start_on(gpu, classifier, images, labels, monkeypatch)
    training.train_epoch()
    assert recorded(training) == [False, False]
    assert len(gpu.tried) == 2


@on_gpu
# Of what is reported, and would hold on to gradients.
@pytest.mark.filterwarnings("error:.*requires_grad=True to a scalar")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_a_gpu_recorded_passes_train_alike(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    precision: Precision,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    on_device = BaseClassifier(classifier.network).cuda()
    more = torch.cat((images, images[:1])).cuda(), torch.cat((labels, labels[:1])).cuda()
    training, losses = train(on_device, *more, precision)
    assert recorded(training) == [True, True]
    monkeypatch.setattr(module, "record", lambda *_: True)
    plain, expected = train(on_device, *more, precision)
    assert recorded(plain) == [False, False]
    tolerance = 0.05 if precision == "bfloat16" else 1e-3
    for found, wanted in zip(losses, expected, strict=True):
        assert found == pytest.approx(wanted, rel=tolerance, abs=tolerance)
    # Batch norm's statistics as well: warming up leaves no trace.
    for ours, theirs in zip(training.denoiser.buffers(), plain.denoiser.buffers(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    # And a restored training goes on with passes that were recorded before.
    state = plain.state_dict()
    training.load_state_dict(state)
    weights = zip(training.denoiser.parameters(), plain.denoiser.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


@on_gpu
def test_a_classifier_that_cannot_be_recorded_trains_as_it_is(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    waiting = BaseClassifier(Waiting(classifier.network)).cuda()
    training, losses = train(waiting, images.cuda(), labels.cuda())
    assert not any(recorded(training))
    _, expected = train(BaseClassifier(classifier.network).cuda(), images.cuda(), labels.cuda())
    for found, wanted in zip(losses, expected, strict=True):
        assert found == pytest.approx(wanted, rel=1e-3, abs=1e-3)
