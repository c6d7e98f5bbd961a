"""Steps on large images keep few activations, and compute the same."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.classifiers import build, random_images
from trainables.decrop import recomputing
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining
from trainables.models.denoisers import DENOISERS, Denoiser, build_denoiser

SIZES: dict[str, dict[str, Any]] = {
    "dncnn": {"depth": 9, "width": 8},
    "memnet": {"memory_blocks": 2, "residual_blocks": 2, "width": 8},
    "unet": {"levels": 2, "width": 8},
}


def untrained(architecture: str) -> Denoiser:
    torch.manual_seed(0)
    network = build_denoiser(architecture, 3, SIZES[architecture])
    # The last layer is zero at first, behind which nothing would have a gradient.
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return network.train()


def kept_bytes(network: Denoiser, recomputed: bool, images: Tensor) -> int:
    """The bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        answer = recomputing.denoise(network, images) if recomputed else network(images)
    # What a stage passes on is held by the repetition itself.
    return sum(kept.values()) if answer.requires_grad else 0


@pytest.mark.parametrize("architecture", sorted(DENOISERS))
def test_gradients_and_statistics_are_those_of_a_plain_pass(architecture: str) -> None:
    plain = untrained(architecture)
    saving = copy.deepcopy(plain)
    images = random_images((4, 3, 12, 12))
    expected, found = plain(images), recomputing.denoise(saving, images)
    assert torch.equal(expected, found)
    for answer in (expected, found):
        answer.square().sum().backward()
    for weight, again in zip(plain.parameters(), saving.parameters(), strict=True):
        assert weight.grad is not None
        assert again.grad is not None
        assert torch.equal(weight.grad, again.grad)
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_a_deep_denoiser_keeps_a_fraction_of_its_activations() -> None:
    images = random_images((2, 3, 32, 32))
    whole = kept_bytes(untrained("dncnn"), False, images)
    saved = kept_bytes(untrained("dncnn"), True, images)
    assert whole > 5 * saved


def test_a_classifier_is_asked_about_a_few_images_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    classifier = build("cifar_resnet20")
    images = random_images((5, 3, 16, 16)).requires_grad_()
    monkeypatch.setattr(recomputing, "PASS_PIXELS", 2 * 16 * 16)
    expected, found = (
        classifier.logits_and_features(images),
        recomputing.classify(classifier, images),
    )
    gradients = []
    for outputs in (expected, found):
        total = torch.cat(outputs, dim=1).square().sum()
        (gradient,) = torch.autograd.grad(total, images)
        gradients.append(gradient)
    for one, other in zip((*expected, gradients[0]), (*found, gradients[1]), strict=True):
        assert torch.allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("joined", [True, False])
def test_training_on_large_images_is_the_same_training(
    joined: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = random_images((8, 3, 12, 12)), torch.arange(8) % 7
    config = DecropConfig(
        epochs=2, batch_size=4, depth=5, width=4, joined_batch_norm=joined, attack_steps=2,
        interpolation_steps=1, stages=1,
    )  # fmt: skip
    classifier, found = build("cifar_resnet20"), []
    for limit in (recomputing.KEPT_PIXELS, 3 * 4 * 144 - 1):
        monkeypatch.setattr(recomputing, "KEPT_PIXELS", limit)
        training = DecropTraining(config, classifier, images, labels, seed=0)
        terms = [training.train_epoch() for _ in range(2)]
        found.append((terms, training.denoiser.state_dict()))
    (plain_terms, plain), (terms, state) = found
    for one, other in zip(plain_terms, terms, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    for name, tensor in plain.items():
        assert torch.allclose(tensor.double(), state[name].double(), atol=1e-4), name


def test_images_of_the_usual_size_keep_their_activations() -> None:
    assert not recomputing.too_large(torch.empty(600, 3, 32, 32))
    assert recomputing.too_large(torch.empty(75, 3, 224, 224))
