from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from tests.support.foldable import (
    Chain,
    ChangedInPlace,
    ConvolutionUsedTwice,
    FiveDimensions,
    NormUsedTwice,
    Pair,
    PairUsedTwice,
    Residual,
    Strides,
    TwoNames,
    TwoNorms,
    TwoNormsThenOne,
    Viewed,
    build,
)
from trainables.acceleration.folding import folded, without_tf32
from trainables.models.architectures import CifarResNet, DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)


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


def test_it_folds_within_mixed_precision_too() -> None:
    classifier = BaseClassifier(build(lambda: CifarResNet(1)))
    with torch.autocast("cpu", torch.bfloat16):
        assert norms(folded(classifier, images((3, 16, 16)))) == 0


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


def test_rounding_to_tf32_is_off_while_both_are_compared() -> None:
    seen = []

    class Watching(nn.Identity):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(torch.backends.cudnn.allow_tf32)
            return images

    network = build(lambda: nn.Sequential(Watching(), *DigitsCNN()))
    folded(BaseClassifier(network), images(count=2))
    assert seen
    assert not any(seen)
    assert torch.backends.cudnn.allow_tf32


@pytest.fixture
def own_settings() -> Iterator[None]:
    yield
    torch.backends.cuda.matmul.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")


def older(precision: str) -> None:
    torch.set_float32_matmul_precision({"tf32": "high", "ieee": "highest"}[precision])


def newer(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision


@pytest.mark.usefixtures("own_settings")
@pytest.mark.parametrize("allow", [older, newer])
@pytest.mark.parametrize("precision", ["tf32", "ieee"])
def test_matrix_products_are_exact_meanwhile_however_a_program_allows_tf32(
    allow: Callable[[str], None], precision: str
) -> None:
    matmul = torch.backends.cuda.matmul
    allow(precision)
    with suppress(KeyError), without_tf32():
        assert matmul.fp32_precision == "ieee"
        raise KeyError
    assert matmul.fp32_precision == precision
