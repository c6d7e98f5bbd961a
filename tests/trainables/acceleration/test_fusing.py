import copy
from collections.abc import Callable

import cloudpickle
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18, vgg11

from tests.support.foldable import build
from trainables.acceleration.folding import folded
from trainables.acceleration.fusing import FusedConvolution, fused
from trainables.models.architectures import CifarResNet
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN, UNet

torch.set_num_threads(1)
IMAGES = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def fusions(network: nn.Module) -> int:
    return sum(isinstance(module, FusedConvolution) for module in network.modules())


def fast(network: nn.Module) -> nn.Module:
    return fused(folded(network.eval(), IMAGES[:2]), IMAGES[:2])


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        # All but the last, which has no ReLU.
        (lambda: DnCNN(3, 5, 8), 4),
        # Two each of its three blocks on the way down and two on the way up.
        (lambda: UNet(3, 3, 4), 10),
        # The first one, and two of each block: the second adds the shortcut.
        (lambda: BaseClassifier(CifarResNet(2)), 13),
        (lambda: BaseClassifier(CifarResNet(1, projection=True)), 7),
        (lambda: BaseClassifier(resnet18(weights=None)), 17),
        (lambda: BaseClassifier(vgg11(weights=None)), 8),
    ],
    ids=["dncnn", "unet", "cifar", "projection", "resnet18", "vgg"],
)
@torch.no_grad()
def test_every_relu_after_a_convolution_is_fused_and_nothing_changes(
    make: Callable[[], nn.Module], expected: int
) -> None:
    network = build(make).eval()
    faster = fast(network)
    assert fusions(network) == 0
    assert fusions(faster) == expected
    torch.testing.assert_close(faster(IMAGES), network(IMAGES), rtol=1e-3, atol=1e-3)
    # As it travels to a worker.
    assert torch.equal(cloudpickle.loads(cloudpickle.dumps(faster))(IMAGES), faster(IMAGES))


class Parts(nn.Module):
    """Two convolutions for the networks below, none of which can be fused as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(3, 3, 3, padding=1) for _ in range(2))


class OutputUsedTwice(Parts):
    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images)
        total: Tensor = F.relu(hidden) + hidden
        return total


class CalledTwice(Parts):
    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.first(F.relu(self.first(images))))


class AddedIsUsedAgain(Parts):
    def forward(self, images: Tensor) -> Tensor:
        hidden = self.first(images) + images
        rest: Tensor = F.relu(hidden) - hidden
        return rest


class ChangedBetween(Parts):
    """The input of the first convolution is another one by the time of the ReLU."""

    def forward(self, images: Tensor) -> Tensor:
        moved = images * 1
        hidden = self.first(moved)
        moved.add_(1.0)
        return F.relu(hidden) + moved


class AddedANumber(Parts):
    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.first(images) + 0.1) + F.relu(torch.add(images, self.second(images)))


class AddedToEachChannel(Parts):
    def __init__(self) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.ones(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.first(images) + self.offset)


class Branching(Parts):
    """Code that cannot be followed, around parts that can."""

    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Sequential(self.first, nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        part = self.part if images.mean() > 0 else self.second
        made: Tensor = part(images)
        return made


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU())
    network[0].register_forward_hook(lambda *seen: seen[2] + 1)
    return network


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (OutputUsedTwice, 0),
        (CalledTwice, 0),
        (AddedIsUsedAgain, 0),
        (ChangedBetween, 0),
        (AddedANumber, 1),
        (AddedToEachChannel, 0),
        (Branching, 1),
        (hooked, 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6()), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.ReLU()), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 1, padding_mode="reflect"), nn.ReLU()), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3, groups=3), nn.ReLU()), 0),
        (lambda: nn.Sequential(nn.Conv2d(3, 6, 3), nn.Identity(), nn.ReLU()), 1),
    ],
    ids=[
        "output twice", "called twice", "sum twice", "changed", "number", "offset", "branching",
        "hooked", "relu6", "same", "reflect", "groups", "identity",
    ],
)  # fmt: skip
@torch.no_grad()
def test_what_cannot_be_fused_stays_right(make: Callable[[], nn.Module], expected: int) -> None:
    network = build(make).eval()
    faster = fused(network, IMAGES[:2])
    assert fusions(faster) == expected
    assert torch.equal(faster(IMAGES), network(IMAGES))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_on_a_gpu_it_is_one_kernel_that_computes_the_same(dtype: torch.dtype) -> None:
    convolution = nn.Conv2d(8, 8, 3, padding=1).to("cuda", dtype)
    layer = FusedConvolution(convolution.to(memory_format=torch.channels_last))
    images, added = torch.randn(2, 4, 8, 16, 16, device="cuda", dtype=dtype)
    exact = copy.deepcopy(convolution).double()(images.double())
    for found, expected in (
        (layer(images), exact.relu()),
        (layer(images, added), (exact + added).relu()),
    ):
        assert (found > 0).any()
        torch.testing.assert_close(found.double(), expected, rtol=2e-2, atol=2e-2)
