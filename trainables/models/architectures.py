"""Networks that a checkpoint can name: a few of our own, and torchvision's classifiers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn


class PlainCNN(nn.Sequential):
    """3 x 3 convolutions with batch norm, and one linear layer on the mean of their outputs.

    [batch, channels, H, W] -> [batch, classes]; `convolutions` lists channels and stride of each.
    """

    def __init__(
        self, channels: int, classes: int, convolutions: Sequence[tuple[int, int]]
    ) -> None:
        layers: list[nn.Module] = []
        inputs = channels
        for outputs, stride in convolutions:
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class DigitsCNN(PlainCNN):
    """A small CNN for small grey images: [batch, channels, H, W] -> [batch, classes]."""

    def __init__(self, num_classes: int = 10, channels: int = 1) -> None:
        super().__init__(channels, num_classes, [(16, 1), (32, 2), (64, 1), (64, 1)])


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padded = stride, (outputs - inputs) // 2
        self.shortcut: nn.Module | None = None
        if projection and inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(inputs)))
        hidden = self.bn2(self.conv2(hidden))
        if self.shortcut is not None:
            return F.relu(hidden + self.shortcut(inputs))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.padded, self.padded))
        return F.relu(hidden + shortcut)


class CifarResNet(nn.Module):
    """Residual network of 6 * blocks + 2 layers: [batch, channels, H, W] -> [batch, classes].

    Three stages of 16, 32 and 64 channels and a head named `linear`. The shortcuts between stages
    are zero-padded identities or, with `projection`, 1 x 1 convolutions with batch norm.
    Source: He et al. 2016, Section 4.2, options A and B.
    """

    def __init__(
        self, blocks: int, num_classes: int = 10, channels: int = 3, *, projection: bool = False
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        stages = []
        for inputs, outputs, stride in ((16, 16, 1), (16, 32, 2), (32, 64, 2)):
            first = _ResidualBlock(inputs, outputs, stride, projection)
            rest = (_ResidualBlock(outputs, outputs, 1, projection) for _ in range(blocks - 1))
            stages.append(nn.Sequential(first, *rest))
        self.layer1, self.layer2, self.layer3 = stages
        self.linear = nn.Linear(64, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits


# Builds a network with random weights, given the numbers of channels and of classes.
Build = Callable[[int, int], nn.Module]


class Architecture(NamedTuple):
    """How to build a network, and the normalisation it expects by default."""

    build: Build
    mean: tuple[float, ...]
    std: tuple[float, ...]


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CIFAR_BLOCKS = {"cifar_resnet20": 3, "cifar_resnet56": 9, "cifar_resnet110": 18}


def cifar_build(arch: str, projection: bool = False) -> Build:
    """How to build the CIFAR ResNet called `arch`."""
    blocks = CIFAR_BLOCKS[arch]
    return lambda channels, classes: CifarResNet(blocks, classes, channels, projection=projection)


ARCHITECTURES: dict[str, Architecture] = {
    "digits_cnn": Architecture(
        lambda channels, classes: DigitsCNN(classes, channels), (0.0,), (1.0,)
    ),
    **{arch: Architecture(cifar_build(arch), *IMAGENET) for arch in CIFAR_BLOCKS},
}


def torchvision_models() -> Any:
    """The module `torchvision.models`, which is slow to import."""
    return import_module("torchvision.models")


def torchvision_names() -> list[str]:
    """The names of torchvision's image classifiers."""
    models = torchvision_models()
    return list(models.list_models(module=models))


def find_architecture(arch: str) -> Architecture | None:
    """The architecture called `arch`, ours or torchvision's; torchvision's take 3 channels."""
    if arch in ARCHITECTURES:
        return ARCHITECTURES[arch]
    if arch not in torchvision_names():
        return None
    models = torchvision_models()
    preset = models.get_model_weights(arch).DEFAULT.transforms()
    return Architecture(
        lambda _channels, classes: models.get_model(arch, weights=None, num_classes=classes),
        tuple(preset.mean),
        tuple(preset.std),
    )
