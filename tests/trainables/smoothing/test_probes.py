"""What a classifier is recognised by when nothing but its answers can be compared."""

import copy
import hashlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.support.exports import Constant
from trainables.errors import InputError
from trainables.models.architectures import CifarResNet
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.probes import PROBES, TOLERANCE, Probes, ask, probe_images, read_probes

torch.set_num_threads(1)
SHAPES = [(3, 32, 32), (1, 8, 8), (1, 28, 28), (3, 17, 31), (2, 1, 1)]
Change = Callable[[nn.Module], nn.Module]


def classifier() -> BaseClassifier:
    """A ResNet with random weights, and statistics that belong to them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = CifarResNet(1)
        with torch.no_grad():
            for _ in range(20):
                network.train()(torch.rand(16, 3, 32, 32))
    return BaseClassifier(network, mean=(0.5,), std=(0.25,))


@pytest.fixture(scope="module")
def probes() -> Probes:
    return ask(nn.Identity(), classifier(), probe_images((3, 32, 32)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probe_images_have_the_shape_that_is_wanted_and_differ(shape: tuple[int, int, int]) -> None:
    images = probe_images(shape)
    assert (images.dtype, tuple(images.shape)) == (torch.uint8, (PROBES, *shape))
    assert torch.equal(images, probe_images(shape))
    assert len({image.numpy().tobytes() for image in images}) == PROBES


def test_probe_images_never_change() -> None:
    digest = hashlib.sha256(probe_images((3, 32, 32)).numpy().tobytes()).hexdigest()
    assert digest[:16] == "bcde32b2caaee3d7"


def test_probes_are_read_back_as_they_were(probes: Probes) -> None:
    for one, other in zip(probes, read_probes(probes.data), strict=True):
        assert torch.equal(one, other)


class Rewritten(nn.Module):
    """The same sums in a different order."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = copy.deepcopy(inner).double()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images.double())
        return logits.float()


def normalised(mean: float, std: float) -> Change:
    return lambda c: BaseClassifier(c.network, (mean,), (std,))  # type: ignore[arg-type]


def seeing(change: Callable[[Tensor], Tensor]) -> Change:
    class Seeing(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = self.inner(change(images))
            return logits

    return Seeing


def test_rounding_is_far_below_the_tolerance(probes: Probes) -> None:
    probes.check(nn.Identity(), Rewritten(classifier()))
    found = ask(nn.Identity(), Rewritten(classifier()), probes.images)
    spread = probes.logits.std(correction=0)
    assert (found.logits - probes.logits).abs().max() < TOLERANCE / 20 * spread


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(normalised(0.505, 0.25), id="mean"),
        pytest.param(normalised(0.5, 0.2525), id="standard deviation"),
        pytest.param(lambda c: c.network, id="no normalisation"),
        pytest.param(seeing(lambda x: x.flip(1)), id="channels in the other order"),
        pytest.param(seeing(lambda x: x.transpose(2, 3)), id="transposed"),
        pytest.param(seeing(lambda x: x.flip(3)), id="mirrored"),
        pytest.param(seeing(lambda x: 255 * x), id="pixels up to 255"),
        pytest.param(seeing(lambda x: x.clamp(0.01, 0.99)), id="clamped"),
        pytest.param(lambda c: c.to(torch.bfloat16).to(torch.float32), id="rounded weights"),
    ],
)
def test_a_slightly_different_classifier_is_refused(probes: Probes, change: Change) -> None:
    same = classifier()
    probes.check(nn.Identity(), same)
    with pytest.raises(InputError, match="this is not the classifier that was certified"):
        probes.check(nn.Identity(), change(same))


def test_a_weight_that_moved_is_noticed(probes: Probes) -> None:
    moved = classifier()
    with torch.no_grad():
        weights = moved.network.get_parameter("conv1.weight")
        weights[3, 1, 1, 1] += 0.5 * weights.std()
    with pytest.raises(InputError, match="differ by"):
        probes.check(nn.Identity(), moved)


def test_a_different_denoiser_is_told_from_a_different_classifier() -> None:
    probes = ask(seeing(lambda x: x / 2)(nn.Identity()), classifier(), probe_images((3, 32, 32)))
    with pytest.raises(InputError, match="the denoiser computes something else"):
        probes.check(nn.Identity(), classifier())


class Strange(nn.Module):
    """Some logits are not finite."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([0.0, 1.0, self.value]).expand(len(images), 3)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_logits_that_are_not_finite_are_compared_as_well(value: float) -> None:
    images = probe_images((1, 4, 4))
    for logits in (Strange(value), Strange(0.5)):
        read_probes(ask(nn.Identity(), logits, images).data).check(nn.Identity(), logits)
    probes = ask(nn.Identity(), Strange(value), images)
    for other in (Strange(0.5), Constant()):
        with pytest.raises(InputError, match="differ by"):
            probes.check(nn.Identity(), other)


class Silent(nn.Module):
    """No logit is finite."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.full((len(images), 3), torch.nan)


def test_a_classifier_without_any_answer_is_recognised() -> None:
    probes = ask(nn.Identity(), Silent(), probe_images((1, 4, 4)))
    probes.check(nn.Identity(), Silent())
    with pytest.raises(InputError, match="differ by"):
        probes.check(nn.Identity(), Constant())


def test_labels_are_compared_like_logits() -> None:
    def labels(shift: int) -> nn.Module:
        return seeing(
            lambda x: nn.functional.one_hot((x.sum((1, 2, 3)).long() + shift) % 3, 3).float()
        )(nn.Identity())

    probes = ask(nn.Identity(), labels(0), probe_images((1, 4, 4)))
    probes.check(nn.Identity(), labels(0))
    with pytest.raises(InputError, match="differ by"):
        probes.check(nn.Identity(), labels(1))


@pytest.mark.parametrize("name", ["images", "logits", "denoised_logits"])
def test_what_does_not_belong_together_is_not_read(probes: Probes, name: str) -> None:
    for wrong in (torch.zeros(3), torch.zeros(0, 3, 8, 8), torch.zeros(PROBES + 1, 10)):
        with pytest.raises(ValueError, match="shape"):
            read_probes(probes._replace(**{name: wrong}).data)
