import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.small_networks import config
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser, DnCNN, MemNet, UNet
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser

torch.set_num_threads(1)


def trained(classifier: BaseClassifier, images: Tensor, labels: Tensor) -> bytes:
    training = DecropTraining(config(), classifier, images, labels, 3)
    for _ in range(2):
        training.train_epoch()
    return denoiser_bytes(training.denoiser)


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_starts_from_the_weights_it_is_given(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, ema_decay: float
) -> None:
    initial = trained(classifier, images, labels)
    chosen = config(stages=1, discriminator_start=0, ema_decay=ema_decay)
    given = DecropTraining(chosen, classifier, images, labels, 0, SharedParts(initial=initial))
    assert denoiser_bytes(given.denoiser) == initial
    put = DecropTraining(chosen, classifier, images, labels, 0)
    assert denoiser_bytes(put.denoiser) != initial
    state = put.state_dict()
    for name in ("network", "average"):
        state[name] = load_denoiser(initial).state_dict()
    put.load_state_dict(state)
    for _ in range(2):
        assert given.train_epoch() == put.train_epoch()
    assert denoiser_bytes(given.denoiser) == denoiser_bytes(put.denoiser) != initial


def test_given_weights_do_not_change_what_the_seed_decides(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    initial = trained(classifier, images, labels)
    first, second = (
        DecropTraining(
            config(), classifier, images, labels, 0, SharedParts(initial=start)
        ).state_dict()
        for start in (None, initial)
    )
    for name, tensor in first["discriminator"].items():
        assert torch.equal(tensor, second["discriminator"][name]), name
    assert torch.equal(first["generator"], second["generator"])


@pytest.mark.parametrize(
    "denoiser",
    [
        DnCNN(1, depth=4, width=4), DnCNN(1, depth=3, width=5), DnCNN(3, depth=3, width=4),
        UNet(1, levels=2, width=4), MemNet(1, 1, 1, 4),
    ],
    ids=["depth", "width", "channels", "unet", "memnet"],
)  # fmt: skip
def test_weights_of_another_architecture_are_refused(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, denoiser: Denoiser
) -> None:
    with pytest.raises(InputError, match=r"^init_denoiser: [^\n]*$") as caught:
        DecropTraining(
            config(), classifier, images, labels, 0, SharedParts(initial=denoiser_bytes(denoiser))
        )
    for name, value in denoiser.spec.items():
        assert f"{name!r}: {value!r}" in str(caught.value)


def test_damaged_weights_are_refused(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*damaged[^\n]*$"):
        DecropTraining(config(), classifier, images, labels, 0, SharedParts(initial=b"weights"))


@pytest.mark.parametrize("value", [1.01, -0.01, 255.0, math.nan, math.inf, -math.inf])
def test_pixels_outside_the_unit_interval_are_refused(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, value: float
) -> None:
    images[3, 0, 4, 4] = value
    with pytest.raises(InputError, match=r"^images: [^\n]*divide 8-bit pixels by 255$"):
        DecropTraining(config(), classifier, images, labels, 0)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_ends_of_the_unit_interval_are_pixels(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, value: float
) -> None:
    images[:] = value
    images[3, 0, 4, 4] = 0.5
    DecropTraining(config(), classifier, images, labels, 0)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 2, 2)])
def test_images_that_the_classifier_does_not_take_are_refused(
    classifier: BaseClassifier, labels: Tensor, shape: tuple[Any, ...]
) -> None:
    network = (
        classifier.network
        if shape[0] == 3
        else torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(2, 2)
        )
    )
    images = torch.rand(len(labels), *shape)
    with pytest.raises(InputError, match=r"^classifier: it (takes grey|does not accept) images"):
        DecropTraining(config(), BaseClassifier(network), images, labels, 0)
