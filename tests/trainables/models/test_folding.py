import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from trainables.models.checkpoint import weights_hash
from trainables.models.classifiers import BaseClassifier, CifarResNet, DigitsCNN
from trainables.models.folding import folded

torch.set_num_threads(1)


class Chain(nn.Module):
    """Three convolutions, each followed by the batch norm whose number `norms` gives."""

    def __init__(self, *norms: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Conv2d(inputs, 4, 3, padding=1) for inputs in (1, 4, 4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(3))
        self.order = norms
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = images
        for convolution, norm in zip(self.convolutions, self.order, strict=True):
            hidden = torch.relu(self.norms[norm](convolution(hidden)))
        logits: Tensor = self.head(hidden.mean(dim=(2, 3)))
        return logits


class Pair(nn.Module):
    """A convolution and a batch norm, used in the way that a subclass says."""

    def __init__(self, convolution: nn.Module | None = None, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 4, 3, padding=1) if convolution is None else convolution
        self.norm = nn.BatchNorm2d(4) if norm is None else norm
        self.head = nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(images).mean(dim=(2, 3)))
        return logits

    def hidden(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(images)))


class Residual(Pair):
    """The convolution's output goes around its batch norm, too."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        return torch.relu(hidden + self.norm(hidden))


class TwoNorms(Pair):
    """The convolution's output goes into two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.BatchNorm2d(4)

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        return torch.relu(self.norm(hidden)) + torch.relu(self.other(hidden))


class TwoNormsThenOne(TwoNorms):
    """Another convolution follows, with a batch norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.later = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())

    def hidden(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.later(super().hidden(images))
        return hidden


class ConvolutionUsedTwice(Pair):
    """Once with batch norm and once without."""

    def hidden(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.convolution(images))) + self.convolution(1 - images)


class PairUsedTwice(Pair):
    """The convolution runs twice, and the batch norm each time."""

    def hidden(self, images: Tensor) -> Tensor:
        first, second = self.convolution(images), self.convolution(1 - images)
        return torch.relu(self.norm(first)) + torch.relu(self.norm(second))


class NormUsedTwice(Pair):
    """Once after the convolution and once on something else."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.convolution(images)))
        return torch.relu(self.norm(hidden))


class TwoNames(Pair):
    """The convolution is found under a name by which it is not called."""

    def __init__(self) -> None:
        super().__init__()
        self.alias = self.convolution

    def hidden(self, images: Tensor) -> Tensor:
        return torch.relu(self.norm(self.alias(images)))


class ChangedInPlace(Pair):
    """Something happens to the output before the batch norm sees it."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = self.convolution(images)
        hidden += 0.5 * images
        return torch.relu(self.norm(hidden))


class Strides(Pair):
    """Reads memory as if it were contiguous, without an error where it is not."""

    def hidden(self, images: Tensor) -> Tensor:
        hidden = super().hidden(images)
        mixed = hidden.as_strided((len(images), 4, 64), (256, 64, 1)).cumsum(dim=2)
        return mixed.view(len(images), 4, 8, 8)


class Viewed(Pair):
    """The usual way to flatten in tutorials, which raises unless memory is contiguous."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(256, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.hidden(images).view(-1, 256))
        return logits


class FiveDimensions(Pair):
    """Holds a tensor for which there is no channels-last layout."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("shift", torch.full((1, 1, 1, 1, 1), 0.25))

    def hidden(self, images: Tensor) -> Tensor:
        return super().hidden(images) + self.get_buffer("shift")[0]


def randomised(network: nn.Module, seed: int = 0) -> nn.Module:
    """The network as if it had been trained: batch norm does something in every channel."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor, low, high in (
                    (module.weight, 0.5, 1.5), (module.bias, -0.5, 0.5),
                    (module.running_mean, -0.5, 0.5), (module.running_var, 0.5, 2.0),
                ):  # fmt: skip
                    if tensor is not None:
                        tensor.copy_(
                            low + (high - low) * torch.rand(len(tensor), generator=generator)
                        )
    return network


def build(make: object) -> nn.Module:
    assert callable(make)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network: nn.Module = make()
    return randomised(network)


def images(shape: tuple[int, ...] = (1, 8, 8), seed: int = 0, count: int = 5) -> Tensor:
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed))


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in module.modules())


def with_gradient(classifier: BaseClassifier, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, features, and the gradient of a function of both in the images."""
    inputs = inputs.clone().requires_grad_(True)
    logits, features = classifier.logits_and_features(inputs)
    (gradient,) = torch.autograd.grad((logits.sin().sum() + features.cos().sum()), inputs)
    return logits.detach(), features.detach(), gradient


def assert_same(
    original: BaseClassifier,
    copy: BaseClassifier,
    inputs: Tensor,
    layout: torch.memory_format = torch.contiguous_format,
) -> None:
    before = with_gradient(original, inputs)
    after = with_gradient(copy, inputs.to(memory_format=layout))
    for expected, found in zip(before, after, strict=True):
        scale = max(1.0, expected.abs().max().item())
        assert found.shape == expected.shape
        assert (found - expected).abs().max().item() <= 1e-4 * scale
    assert before[2].abs().max() > 1e-6


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (DigitsCNN, (1, 8, 8)),
        (lambda: CifarResNet(3), (3, 16, 16)),
        (lambda: CifarResNet(1, projection=True), (3, 16, 16)),
        (lambda: resnet18(weights=None), (3, 40, 40)),
        (lambda: Chain(0, 1, 2), (1, 8, 8)),
        (lambda: Pair(norm=nn.BatchNorm2d(4, affine=False)), (1, 8, 8)),
        (lambda: Pair(nn.Conv2d(1, 4, 3, stride=2, dilation=2, bias=False)), (1, 8, 8)),
        (Viewed, (1, 8, 8)),
        (FiveDimensions, (1, 8, 8)),
    ],
    ids=[
        "digits", "cifar", "projection", "resnet18", "chain", "no affine", "dilated", "viewed",
        "five dimensions",
    ],
)  # fmt: skip
def test_no_batch_norm_is_left_and_outputs_features_and_gradients_are_the_same(
    make: object, shape: tuple[int, ...]
) -> None:
    original = BaseClassifier(build(make), mean=(0.4,), std=(0.25,))
    assert norms(original) > 0
    copy = folded(original, images(shape, count=2))
    assert norms(copy) == 0
    assert_same(original, copy, images(shape, seed=1))


@pytest.mark.parametrize(
    "make",
    [
        Residual, TwoNorms, ConvolutionUsedTwice, PairUsedTwice, NormUsedTwice, TwoNames,
        ChangedInPlace, Strides,
        lambda: Pair(norm=nn.BatchNorm2d(4, track_running_stats=False)),
        lambda: Pair(nn.ConvTranspose2d(1, 4, 3)),
        lambda: Pair(nn.utils.weight_norm(nn.Conv2d(1, 4, 3))),
        lambda: Pair(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 4, 3))),
        lambda: Pair(nn.utils.spectral_norm(nn.Conv2d(1, 4, 3))),
        lambda: Pair(nn.utils.parametrizations.spectral_norm(nn.Conv2d(1, 4, 3))),
        lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(64, 3)),
    ],
    ids=[
        "residual", "two norms", "convolution twice", "pair twice", "norm twice", "two names",
        "in place", "strides", "no statistics", "transposed", "weight norm", "new weight norm",
        "spectral norm", "new spectral norm", "norm alone",
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_what_cannot_be_folded_is_left_right(make: object) -> None:
    original = BaseClassifier(build(make))
    assert_same(original, folded(original, images(count=2)), images(seed=1))


@pytest.mark.parametrize(
    ("make", "stay", "go"),
    [
        (lambda: Chain(0, 1, 0), ["norms.0"], ["norms.1"]),
        (TwoNormsThenOne, ["norm", "other"], ["later.1"]),
    ],
    ids=["two convolutions", "two norms"],
)
def test_batch_norms_of_shared_outputs_stay_and_the_others_go(
    make: object, stay: list[str], go: list[str]
) -> None:
    original = BaseClassifier(build(make))
    copy = folded(original, images(count=2))
    for name in stay:
        assert isinstance(copy.network.get_submodule(name), nn.BatchNorm2d)
    for name in go:
        assert not isinstance(copy.network.get_submodule(name), nn.BatchNorm2d)
    assert_same(original, copy, images(seed=1))


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize(
    ("make", "shape"),
    [(DigitsCNN, (1, 8, 8)), (Viewed, (1, 8, 8)), (lambda: CifarResNet(1), (3, 8, 8))],
    ids=["digits", "viewed", "cifar"],
)
def test_images_of_either_layout_are_classified_alike(
    make: object, shape: tuple[int, ...], layout: torch.memory_format
) -> None:
    original = BaseClassifier(build(make))
    copy = folded(original, images(shape, count=2))
    assert_same(original, copy, images(shape, seed=1), layout)


@pytest.mark.parametrize(
    ("make", "layout"),
    [
        (lambda: Pair(nn.Conv2d(3, 4, 3, padding=1)), torch.channels_last),
        # Folding fails here, which is no reason against the layout.
        (lambda: Residual(nn.Conv2d(3, 4, 3, padding=1)), torch.channels_last),
        (lambda: Strides(nn.Conv2d(3, 4, 3, padding=1)), torch.contiguous_format),
    ],
    ids=["pair", "residual", "strides"],
)
def test_weights_are_laid_out_channels_last_where_the_network_allows_it(
    make: object, layout: torch.memory_format
) -> None:
    fast = folded(BaseClassifier(build(make)), images((3, 8, 8), count=2))
    weight = fast.get_parameter("network.convolution.weight")
    found = [weight.is_contiguous(memory_format=torch.channels_last), weight.is_contiguous()]
    assert found == [layout is torch.channels_last, layout is torch.contiguous_format]


@pytest.mark.parametrize("layer", ["0", "1", "2", "9", "10", "12", "14"])
def test_a_feature_layer_gives_the_same_features(layer: str) -> None:
    original = BaseClassifier(build(DigitsCNN), feature_layer=layer)
    copy = folded(original, images(count=2))
    assert_same(original, copy, images(seed=1))
    # The output of a convolution itself is another one after folding.
    assert norms(copy) == (4 if layer in {"0", "9"} else 0)


def test_the_original_is_untouched() -> None:
    original = BaseClassifier(build(DigitsCNN))
    modules, before = list(original.modules()), weights_hash(original)
    strides = [p.stride() for p in original.parameters()]
    copy = folded(original, images(count=2))
    copy(images())
    assert list(original.modules()) == modules
    assert weights_hash(original) == before
    assert [p.stride() for p in original.parameters()] == strides
    for module in modules:
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
    assert {id(p) for p in original.parameters()}.isdisjoint(id(p) for p in copy.parameters())


def test_a_copy_is_frozen_whatever_happens_to_it() -> None:
    copy = folded(BaseClassifier(build(DigitsCNN)), images(count=2))
    assert not any(p.requires_grad for p in copy.parameters())
    copy.train()
    assert not any(module.training for module in copy.modules())


@pytest.mark.parametrize("make", [DigitsCNN, Viewed])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_give_outputs_that_are_none(make: object, value: float) -> None:
    network = build(make)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    nn.init.constant_(first.weight, value)
    original = BaseClassifier(network)
    copy = folded(original, images(count=2))
    logits = copy(images().to(memory_format=torch.channels_last))
    assert not original(images()).isfinite().any()
    assert not logits.isfinite().any()
