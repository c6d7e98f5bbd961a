import time

import pytest
import torch
from torch import Tensor, nn

from trainables.acceleration.voting import Precision, prepared
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Block, Noise
from trainables.smoothing.precision import choose_precision
from trainables.weights.checkpoint import weights_hash

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
