"""Frozen base classifiers, with the normalisation and the features that belong to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest


class BaseClassifier(nn.Module):
    """A frozen classifier of images [batch, C, H, W] in [0, 1]; its weights never change.

    Penultimate features are the input of the last linear layer that runs in a forward pass or,
    with `feature_layer`, the output of the submodule of that name; flattened for each image.
    `mean` and `std` hold one value, or one for each channel, in the unit of the pixels.

    Raises:
        InputError: for a standard deviation that is not positive, or an unknown `feature_layer`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
        feature_layer: str | None = None,
    ) -> None:
        super().__init__()
        _check_normalisation(mean, std)
        layers = [name for name, _ in network.named_modules() if name]
        if feature_layer is not None and feature_layer not in layers:
            raise InputError(
                f"--feature-layer: the classifier has no layer {feature_layer!r}"
                f"{nearest(feature_layer, layers)}"
            )
        self.network = network
        self._layer, self._is_head = feature_layer, feature_layer is None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> BaseClassifier:
        """Stay in evaluation mode whatever `mode` says: batch norm must not move."""
        super().train(False)
        return self

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
        for values in (self.mean, self.std):
            if values.shape[1] not in (1, images.shape[1]):
                raise ValueError(
                    f"normalised for {values.shape[1]} channels, not {images.shape[1]}; "
                    "pass --mean and --std"
                )
        return (images - self.mean) / self.std

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and penultimate features [batch, features].

        Raises:
            InputError: when no linear layer runs, or the feature layer gives no tensor.
            ValueError: for another number of channels than the normalisation has.
        """
        seen: list[tuple[str, Any]] = []

        def keep(name: str, _: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            seen.append((name, next(iter((*args, *kwargs.values()))) if self._is_head else output))

        with ExitStack() as hooks:
            for name in self._candidates():
                layer = self.network.get_submodule(name)
                hook = layer.register_forward_hook(partial(keep, name), with_kwargs=True)
                hooks.enter_context(hook)
            logits = self(images)
        if not seen:
            raise InputError(self._no_features())
        self._layer, features = seen[-1]
        if not isinstance(features, Tensor) or features.shape[:1] != images.shape[:1]:
            raise InputError(
                f"--feature-layer: {self._layer} gives {_describe(features)}, not one tensor with "
                "features for each image; name another layer"
            )
        return logits, features.flatten(1)

    def probe(self, images: Tensor) -> tuple[int, int]:
        """The numbers of classes and of features, from one pass of `images` [n >= 2, C, H, W].

        Raises:
            InputError: when the network does not take such images, returns anything but logits
                [batch, classes], or has no features.
        """
        try:
            # Not inference mode: what a network caches in its first pass must take gradients later.
            with torch.no_grad():
                logits, features = self.logits_and_features(images)
        except InputError:
            raise
        except Exception as error:  # a foreign network can raise anything
            raise InputError(
                f"--classifier: it does not accept images of shape {tuple(images.shape[1:])} "
                "(channels, height, width), which is what the data set holds: "
                f"{describe_error(error)}"
            ) from error
        shaped = isinstance(logits, Tensor) and logits.ndim == 2 and logits.is_floating_point()
        if not shaped or len(logits) != len(images) or logits.shape[1] < 2:
            raise InputError(
                f"--classifier: for {len(images)} images it returns {_describe(logits)}, not "
                "logits [batch, classes] alone"
            )
        return logits.shape[1], features.shape[1]

    def _candidates(self) -> list[str]:
        if self._layer is not None:
            return [self._layer]
        return [name for name, m in self.network.named_modules() if isinstance(m, nn.Linear)]

    def _no_features(self) -> str:
        if not self._is_head:
            return f"--feature-layer: {self._layer} does not run when images are classified"
        leaves = [name for name, m in self.network.named_modules() if not any(m.children())]
        return (
            "--feature-layer: the classifier runs no linear layer whose input could be its "
            f"features; name the layer that computes them, such as {', '.join(leaves[-4:])}"
        )


class PlainCNN(nn.Sequential):
    """3 x 3 convolutions with batch norm, and one linear layer on the mean of what they give.

    [batch, channels, H, W] -> [batch, classes]; `convolutions` are channels and stride of each.
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


# Makes a network, with random weights, for a number of channels and a number of classes.
Build = Callable[[int, int], nn.Module]


class Architecture(NamedTuple):
    """How to build a network, and the normalisation it expects unless something else is known."""

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


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    return f"a {type(value).__name__}"


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for flag, values in (("--mean", mean), ("--std", std)):
        if not values or not all(map(math.isfinite, values)):
            raise InputError(f"{flag}: {list(values)} are no finite numbers")
    if min(std) <= 0:
        raise InputError(f"--std: {min(std)} is not positive; pass the pixels' standard deviation")
