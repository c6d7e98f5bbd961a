import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.support.classifiers import Disordered, random_images
from tests.support.refusal import refusal
from trainables.errors import InputError
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)


class Returning(nn.Module):
    """Gives the logits in the form that `wrap` makes of them."""

    def __init__(self, wrap: object) -> None:
        super().__init__()
        self.linear, self.wrap = nn.Linear(4, 3), wrap

    def forward(self, images: Tensor) -> object:
        return self.wrap(self.linear(images.flatten(1)))  # type: ignore[operator]


def test_weights_get_no_gradient_but_the_input_does(
    classifier: BaseClassifier, images: Tensor
) -> None:
    images.requires_grad_(True)
    classifier(images).square().sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_nothing_in_the_classifier_moves_in_training_mode(
    classifier: BaseClassifier, images: Tensor
) -> None:
    before = weights_hash(classifier)
    nn.Sequential(classifier).train()
    logits = classifier.train()(images)
    assert not any(module.training for module in classifier.modules())
    assert weights_hash(classifier) == before
    assert torch.equal(logits, classifier(images))


def test_the_network_is_frozen_even_if_it_came_in_training_mode() -> None:
    network = DigitsCNN().train()
    BaseClassifier(network)
    assert not any(module.training for module in network.modules())


def test_images_are_normalised_by_channel() -> None:
    mean, std = (0.5, 0.25), (0.2, 0.4)
    classifier = BaseClassifier(nn.Sequential(nn.Flatten(), nn.Linear(8, 2)), mean, std)
    images = random_images((3, 2, 2, 2))
    head = classifier.get_submodule("network.1")
    assert isinstance(head, nn.Linear)
    normalised = (images.numpy() - np.reshape(mean, (2, 1, 1))) / np.reshape(std, (2, 1, 1))
    expected = normalised.reshape(3, 8) @ head.weight.numpy().T + head.bias.numpy()
    assert np.allclose(classifier(images).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("field", "values", "divided"),
    [("mean", (123.675, 116.28, 103.53), "0.485,0.456,0.406"), ("std", (78.6,), "0.3082")],
)
def test_a_normalisation_of_pixels_up_to_255_is_refused(
    field: str, values: tuple[float, ...], divided: str
) -> None:
    normalisation: dict[str, Any] = {field: values}
    message = refusal(lambda: BaseClassifier(nn.Identity(), **normalisation))
    assert message.startswith(f"{field}: {values[0]:g} is above 1, but pixels are from 0 to 1")
    assert message.endswith(f"divide by 255: {divided}")


def test_images_of_another_number_of_channels_are_refused() -> None:
    for mean, std in (((0.5,) * 3, (1.0,)), ((0.5,), (1.0,) * 3)):
        classifier = BaseClassifier(CifarResNet(3), mean, std)
        with pytest.raises(ValueError, match="3 channels, not 1"):
            classifier(random_images((2, 1, 8, 8)))


def test_the_state_can_be_restored() -> None:
    first, second = BaseClassifier(DigitsCNN()), BaseClassifier(DigitsCNN())
    assert weights_hash(first) != weights_hash(second)
    second.load_state_dict(first.state_dict())
    assert weights_hash(first) == weights_hash(second)


@pytest.mark.parametrize("shape", [(2, 1, 4, 4), (2, 3, 3, 3), (2, 2, 3, 3)], ids=str)
def test_images_that_the_network_does_not_take_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        InputError, match=r"^classifier: [^\n]*not accept images of shape"
    ) as caught:
        BaseClassifier(Disordered()).probe(random_images(shape))
    assert str(shape[1:]) in str(caught.value)
    assert "`image_size` and `channels` change them" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_grey_images_for_an_rgb_network_are_refused_saying_how_to_repeat_them() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 2))
    for classifier in (BaseClassifier(network), BaseClassifier(CifarResNet(3), (0.5,) * 3)):
        with pytest.raises(InputError, match=r"it takes RGB, but the images are grey; pass `chann"):
            classifier.probe(random_images((2, 1, 4, 4)))


def test_rgb_images_for_a_grey_network_are_refused_saying_how_to_make_them_grey() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4 * 4, 2))
    with pytest.raises(
        InputError, match="it takes grey images, but these are RGB; pass `channels`"
    ):
        BaseClassifier(network).probe(random_images((2, 3, 4, 4)))


@pytest.mark.parametrize(
    ("wrap", "found"),
    [
        (lambda x: (x, x), "a tuple"),
        (lambda x: {"logits": x}, "a dict"),
        (lambda x: x[:, :, None], "(2, 3, 1)"),
        (lambda x: x[0], "(3,)"),
        (lambda x: x[:1], "(1, 3)"),
        (lambda x: x[:, :1], "(2, 1)"),
        (lambda x: x.argmax(1, keepdim=True).expand(2, 3), "int64"),
    ],
)
def test_anything_but_logits_is_refused(wrap: object, found: str) -> None:
    with pytest.raises(InputError, match="not logits") as caught:
        BaseClassifier(Returning(wrap)).probe(random_images((2, 1, 2, 2)))
    assert found in str(caught.value)


@pytest.mark.parametrize(
    ("mean", "std", "flag"),
    [((0.0,), (0.0,), "std"), ((0.0,), (1.0, -1.0), "std"), ((0.0,), (float("nan"),), "std"),
     ((float("inf"),), (1.0,), "mean"), ((), (1.0,), "mean"), ((0.0,), (), "std")],
)  # fmt: skip
def test_a_normalisation_that_cannot_be_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], flag: str
) -> None:
    with pytest.raises(InputError, match=f"^{flag}: "):
        BaseClassifier(DigitsCNN(), mean, std)


def test_gradients_flow_after_probing() -> None:
    class Caching(nn.Module):
        """Keeps what it computes in its first pass, as networks with position codes do."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(4, 3)
            self.code: Tensor | None = None

        def forward(self, images: Tensor) -> Tensor:
            if self.code is None:
                self.code = torch.arange(4.0) * 2
            return self.linear(images.flatten(1) * self.code)  # type: ignore[no-any-return]

    classifier = BaseClassifier(Caching())
    classifier.probe(random_images((2, 1, 2, 2)))
    images = random_images((2, 1, 2, 2)).requires_grad_(True)
    classifier(images).square().sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_copies_and_pickles_give_the_same_logits_and_features(
    classifier: BaseClassifier, images: Tensor
) -> None:
    expected = classifier.logits_and_features(images)
    for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        for value, wanted in zip(twin.logits_and_features(images), expected, strict=True):
            assert torch.equal(value, wanted)
        assert not any(p.requires_grad for p in twin.parameters())
