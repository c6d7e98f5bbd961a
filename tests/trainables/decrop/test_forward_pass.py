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
    monkeypatch.setattr(module, "record", lambda *_: None)
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
