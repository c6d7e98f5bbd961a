import time
from pathlib import Path
from typing import ClassVar

import cloudpickle
import pytest
import torch
from torch import Tensor, nn

from tests.support.foldable import Strides, build
from tests.support.programs import export
from trainables.acceleration import voting as module
from trainables.acceleration.voting import Precision, layout_of_votes, prepared
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Block, Noise
from trainables.smoothing.precision import choose_precision
from trainables.weights.checkpoint import weights_hash
from trainables.weights.exported import FEATURES, load_exported

torch.set_num_threads(1)
SHAPE = (1, 8, 8)
IMAGE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(3))


def randomised(network: nn.Module) -> nn.Module:
    """Weights and batch norm statistics that are not those of a fresh network."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
        network.train()(torch.rand(64, *SHAPE, generator=generator))
    return network.eval().requires_grad_(False)


def model(denoiser: type[DnCNN] = DnCNN) -> nn.Sequential:
    classifier = BaseClassifier(randomised(DigitsCNN(10, 1)), (0.3,), (0.2,))
    return nn.Sequential(randomised(denoiser(1, 4, 8)), classifier).eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def test_the_prepared_copy_computes_the_same_without_batch_norm() -> None:
    original = model()
    before = weights_hash(original)
    copy = prepared(original, SHAPE, "float32")
    images = torch.rand(50, *SHAPE)
    assert norms(original) > 0
    assert norms(copy) == 0
    assert torch.allclose(copy(images), original(images), rtol=1e-3, atol=1e-4)
    assert weights_hash(original) == before


def test_in_bfloat16_most_votes_stay_and_logits_are_float32() -> None:
    original, blocks = model(), [Block(500, 1)]
    rounded = prepared(original, SHAPE, "bfloat16")
    head = {n for n, p in rounded.named_parameters() if p.dtype == torch.float32}
    assert len(head) == 2 < len(list(rounded.parameters()))
    assert rounded(IMAGE[None]).dtype == torch.float32
    exact = torch.tensor(total_votes(original, IMAGE, Noise(0.5), blocks))
    found = torch.tensor(total_votes(rounded, IMAGE, Noise(0.5), blocks))
    # No logits tie, as many of so few digits would.
    assert found.sum() == 500
    assert (exact - found).abs().sum() < 75


class OwnLinear(nn.Linear):
    """A linear layer of another library: tracing would take it apart."""

    def forward(self, inputs: Tensor) -> Tensor:
        return nn.functional.linear(inputs, self.weight, self.bias)


class Reordered(nn.Module):
    """Its head is registered before its other linear layer."""

    def __init__(self, kind: type[nn.Linear]) -> None:
        super().__init__()
        self.head, self.relu = kind(8, 3), nn.ReLU()
        self.convolution, self.hidden = nn.Conv2d(1, 2, 3), kind(72, 8)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.convolution(images)).flatten(1)
        logits: Tensor = self.head(torch.tanh(self.hidden(hidden)))
        return logits


@pytest.mark.parametrize("kind", [nn.Linear, OwnLinear])
def test_in_bfloat16_the_layer_that_gives_the_logits_stays_float32(kind: type[nn.Linear]) -> None:
    torch.manual_seed(0)
    classifier = BaseClassifier(Reordered(kind))
    images = torch.rand(4, *SHAPE)
    classifier.fix_head(images)
    votes = prepared(classifier, SHAPE, "bfloat16")(images)
    assert torch.allclose(votes, classifier(images), atol=0.02)
    assert not torch.equal(votes, votes.bfloat16().float())


class Switches(DnCNN):
    """Sees what cuDNN may do while it denoises."""

    seen: tuple[bool, ...] = ()

    def noise(self, noisy: Tensor) -> Tensor:
        cudnn = torch.backends.cudnn
        type(self).seen = (cudnn.allow_tf32, cudnn.benchmark, cudnn.deterministic)
        return super().noise(noisy)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_votes_are_in_the_precision_they_say_whatever_a_program_allows(
    precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    copy = prepared(model(Switches), SHAPE, precision)
    total_votes(copy, IMAGE, Noise(0.5), [Block(10, 0)])
    assert Switches.seen == (False, False, True)
    assert (torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark) == (True, True)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_weights_are_contiguous_for_float32_on_a_gpu_and_channels_last_otherwise(
    precision: Precision,
) -> None:
    assert layout_of_votes("cpu", precision) is torch.channels_last
    expected = torch.contiguous_format if precision == "float32" else torch.channels_last
    assert layout_of_votes("cuda", precision) is expected


class Layouts(DnCNN):
    """Sees the layout of the images that it denoises."""

    seen: torch.memory_format | None = None

    def noise(self, noisy: Tensor) -> Tensor:
        type(self).seen = layout_of_tensor(noisy)
        return super().noise(noisy)


def layout_of_tensor(tensor: Tensor) -> torch.memory_format | None:
    """The layout of a tensor with several channels and pixels, which has one only."""
    layouts = (torch.channels_last, torch.contiguous_format)
    return next((it for it in layouts if tensor.is_contiguous(memory_format=it)), None)


def layouts_of_weights(network: nn.Module) -> set[torch.memory_format | None]:
    kernels = [p for p in network.parameters() if p.dim() == 4 and p.shape[1] > 1]
    return {layout_of_tensor(kernel) for kernel in kernels}


def colourful() -> nn.Sequential:
    classifier = BaseClassifier(build(lambda: DigitsCNN(10, 3)), (0.3,), (0.2,))
    return nn.Sequential(build(lambda: Layouts(3, 4, 8)), classifier).eval()


def test_the_layout_follows_from_the_device_of_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    copy, image = prepared(colourful(), (3, 8, 8), "float32"), torch.rand(3, 8, 8)
    noise, blocks = Noise(0.5), [Block(50, 0)]
    expected = total_votes(copy, image, noise, blocks)
    assert {Layouts.seen} == layouts_of_weights(copy) == {torch.channels_last}

    original = layout_of_votes
    monkeypatch.setattr(module, "layout_of_votes", lambda _, precision: original("cuda", precision))
    # As on a worker: it receives the copy, and votes in inference mode.
    arrived = cloudpickle.loads(cloudpickle.dumps(copy))
    assert total_votes(arrived, image, noise, blocks) == expected
    assert {Layouts.seen} == layouts_of_weights(arrived) == {torch.contiguous_format}
    # Afterwards it can be used outside of inference mode, and on the CPU again.
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    arrived(images).sum().backward()
    monkeypatch.undo()
    assert total_votes(arrived, image, noise, blocks) == expected
    assert layouts_of_weights(arrived) == {torch.channels_last}


def test_a_network_that_runs_in_one_layout_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    # It reads memory as if it were contiguous.
    classifier = BaseClassifier(build(lambda: Strides(nn.Conv2d(3, 4, 3, padding=1))))
    copy = prepared(classifier, (3, 8, 8), "bfloat16")
    assert copy(torch.rand(2, 3, 8, 8)).isfinite().all()
    assert layouts_of_weights(copy) == {torch.contiguous_format}


class Threads(DnCNN):
    """Remembers how many threads computed its answers."""

    seen: ClassVar[set[int]] = set()

    def noise(self, images: Tensor) -> Tensor:
        self.seen.add(torch.get_num_threads())
        return super().noise(images)


def test_a_model_is_prepared_by_one_thread() -> None:
    torch.set_num_threads(2)
    try:
        prepared(Threads(1, 4, 8).eval(), SHAPE, "float32")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert Threads.seen == {1}


class Foreign(nn.Module):
    """What only answers, and counts how often."""

    asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += len(images)
        return images.flatten(1)[:, :10]


def test_what_is_not_ours_is_left_alone_and_not_asked() -> None:
    foreign = Foreign()
    whole = nn.Sequential(randomised(DnCNN(1, 3, 4)), foreign)
    copy = prepared(whole, SHAPE, "float32")
    assert isinstance(copy, nn.Sequential)
    assert copy[1] is foreign
    assert prepared(foreign, SHAPE, "bfloat16") is foreign
    assert choose_precision(whole, IMAGE) == "float32"
    assert foreign.asked == 0


class Slow(DnCNN):
    """Takes its time in one precision."""

    dtype = torch.float32

    def noise(self, noisy: Tensor) -> Tensor:
        if noisy.dtype == self.dtype:
            time.sleep(0.1)
        return super().noise(noisy)


class Unable(DnCNN):
    def noise(self, noisy: Tensor) -> Tensor:
        if noisy.dtype == torch.bfloat16:
            raise RuntimeError("not implemented for 'BFloat16'")
        time.sleep(0.01)
        return super().noise(noisy)


class SlowRounded(Slow):
    dtype = torch.bfloat16


@pytest.mark.usefixtures("only_sleep_takes_time")
@pytest.mark.parametrize(
    ("denoiser", "expected"), [(Slow, "bfloat16"), (SlowRounded, "float32"), (Unable, "float32")]
)
def test_the_faster_precision_is_chosen_if_it_works(denoiser: type[DnCNN], expected: str) -> None:
    assert choose_precision(model(denoiser), IMAGE) == expected


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_program_without_parameters_votes_like_its_network(
    tmp_path: Path, precision: Precision
) -> None:
    network = randomised(DigitsCNN(10, 1))
    path = export(tmp_path / "c.pt2", network, IMAGE[None].repeat(2, 1, 1, 1))
    exported = BaseClassifier(load_exported(path), feature_layer=FEATURES)
    assert not list(exported.parameters())
    blocks, noise = [Block(500, 1)], Noise(0.5)
    expected = total_votes(
        prepared(BaseClassifier(network), SHAPE, "float32"), IMAGE, noise, blocks
    )
    found = total_votes(prepared(exported, SHAPE, precision), IMAGE, noise, blocks)
    different = sum(abs(a - b) for a, b in zip(expected, found, strict=True))
    assert different < (5 if precision == "float32" else 100)
