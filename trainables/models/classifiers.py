"""Frozen base classifiers, with the normalisation and the features that belong to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BaseClassifier(nn.Module):
    """A frozen classifier of images [batch, C, H, W] in [0, 1]; its weights never change.

    Penultimate features are the input of the last linear layer.

    Raises:
        ValueError: when `network` has no linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        linear = [name for name, m in network.named_modules() if isinstance(m, nn.Linear)]
        if not linear:
            raise ValueError("the classifier has no linear layer to take features from")
        self.network = network
        self._head_name = linear[-1]
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> BaseClassifier:
        """Stay in evaluation mode whatever `mode` says: batch norm must not move."""
        super().train(False)
        return self

    @property
    def _head(self) -> nn.Linear:
        head = self.network.get_submodule(self._head_name)
        assert isinstance(head, nn.Linear)
        return head

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return self._head.out_features

    @property
    def num_features(self) -> int:
        """How many penultimate features there are."""
        return self._head.in_features

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes].

        Raises:
            ValueError: for another number of channels than the normalisation has.
        """
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """What the network itself sees of `images` [batch, C, H, W].

        Raises:
            ValueError: for another number of channels than the normalisation has.
        """
        # A grey image would silently broadcast against three means.
        if self.mean.shape[1] not in (1, images.shape[1]):
            raise ValueError(f"{images.shape[1]} channels, not {self.mean.shape[1]}")
        return (images - self.mean) / self.std

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and penultimate features [batch, features]."""
        seen: list[Tensor] = []

        def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            seen.append(inputs[0])

        with self._head.register_forward_pre_hook(keep):
            logits = self(images)
        return logits, seen[0]


class DigitsCNN(nn.Sequential):
    """A small CNN for grey 8 x 8 digits: [batch, 1, 8, 8] -> [batch, classes]."""

    def __init__(self, num_classes: int = 10) -> None:
        layers: list[nn.Module] = []
        inputs = 1
        for outputs, stride in ((16, 1), (32, 2), (64, 1), (64, 1)):
            layers += [
                nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(),
            ]
            inputs = outputs
        super().__init__(
            *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, num_classes)
        )


class _ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.padded = stride, (outputs - inputs) // 2

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(inputs)))
        hidden = self.bn2(self.conv2(hidden))
        shortcut = inputs[:, :, :: self.stride, :: self.stride]
        shortcut = F.pad(shortcut, (0, 0, 0, 0, self.padded, self.padded))
        return F.relu(hidden + shortcut)


class CifarResNet(nn.Module):
    """Residual network of 6 * blocks + 2 layers for small images: [batch, 3, H, W] -> logits.

    Three stages of 16, 32 and 64 channels, zero-padded identity shortcuts, a head named `linear`.
    Source: He et al. 2016, Section 4.2.
    """

    def __init__(self, blocks: int, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, stride=1)
        self.layer2 = self._stage(16, 32, blocks, stride=2)
        self.layer3 = self._stage(32, 64, blocks, stride=2)
        self.linear = nn.Linear(64, num_classes)

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        first = _ResidualBlock(inputs, outputs, stride)
        return nn.Sequential(
            first, *(_ResidualBlock(outputs, outputs, 1) for _ in range(blocks - 1))
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images."""
        hidden = F.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        logits: Tensor = self.linear(hidden.mean(dim=(2, 3)))
        return logits


class Architecture(NamedTuple):
    """How to build a network for some number of classes, and the normalisation it expects."""

    build: Callable[[int], nn.Module]
    mean: tuple[float, ...]
    std: tuple[float, ...]


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

ARCHITECTURES: dict[str, Architecture] = {
    "digits_cnn": Architecture(DigitsCNN, (0.0,), (1.0,)),
    "cifar_resnet20": Architecture(lambda classes: CifarResNet(3, classes), *_IMAGENET),
    "cifar_resnet56": Architecture(lambda classes: CifarResNet(9, classes), *_IMAGENET),
    "cifar_resnet110": Architecture(lambda classes: CifarResNet(18, classes), *_IMAGENET),
}
