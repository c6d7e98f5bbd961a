"""Frozen base classifiers, with the normalisation and the features that belong to them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest
from trainables.models.blueprint import Blueprint

# By the number of channels that the images have, and the network does not take.
WRONG_CHANNELS = {
    1: "it takes RGB, but the images are grey; pass `channels` 3, which repeats them in three "
    "channels",
    3: "it takes grey images, but these are RGB; pass `channels` 1, which makes them grey",
}


class IdentifiedClassifier(nn.Module):
    """A classifier that its weights identify: two are equal if and only if their weights are."""


class BaseClassifier(IdentifiedClassifier):
    """A frozen classifier of images [batch, C, H, W] in [0, 1]; its weights never change.

    Penultimate features are the input of the head or, with `feature_layer`, the output of the
    submodule of that name; flattened for each image. The head is the last layer that runs in a
    forward pass of all linear ones, and of convolutions that give one value for each class. Without
    either, a classifier has no features, which only training needs. `mean` and `std` hold one
    value, or one for each channel, in the unit of the pixels. `blueprint` says how to build the
    network again, if that is known.

        classifier = BaseClassifier(network, mean=(0.5,), std=(0.25,))
        logits, features = classifier.logits_and_features(images)

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
        blueprint: Blueprint | None = None,
    ) -> None:
        super().__init__()
        _check_normalisation(mean, std)
        layers = [name for name, _ in network.named_modules() if name]
        if feature_layer is not None and feature_layer not in layers:
            raise InputError(
                f"the classifier has no layer {feature_layer!r}{nearest(feature_layer, layers)}",
                field="feature_layer",
            )
        self.network = network
        self.feature_layer, self.blueprint = feature_layer, blueprint
        # The name of the head in the network, once it is known.
        self.head: str | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> BaseClassifier:
        """Stay in evaluation mode whatever `mode` is: batch norm's statistics must not change."""
        super().train(False)
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes].

        Raises:
            ValueError: when the normalisation has a different number of channels.
        """
        logits: Tensor = self.network(self.normalise(images))
        return logits

    def normalise(self, images: Tensor) -> Tensor:
        """`images` [batch, C, H, W] as the network itself sees them.

        Raises:
            ValueError: when the normalisation has a different number of channels.
        """
        # A grey image would silently broadcast against three means.
        for values in (self.mean, self.std):
            if values.shape[1] not in (1, images.shape[1]):
                raise ValueError(
                    f"normalised for {values.shape[1]} channels, not {images.shape[1]}; "
                    "pass mean and std"
                )
        return (images - self.mean) / self.std

    def logits_and_features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [batch, classes] and penultimate features [batch, features].

        Raises:
            InputError: when there is no head, or the feature layer gives no tensor.
            ValueError: when the normalisation has a different number of channels.
        """
        logits, layer, features = self._watched_pass(images)
        return logits, self._checked_features(layer, features, len(images))

    def outputs(self, images: Tensor) -> tuple[Tensor, ...]:
        """Logits [batch, classes] and, if the classifier has them, features [batch, features]."""
        logits, _, features = self._watched_pass(images)
        if not isinstance(features, Tensor):
            return (logits,)
        return logits, features.reshape(len(features), -1)

    def fix_head(self, images: Tensor) -> None:
        """Find the head in a pass of `images`, so that later passes watch only that layer."""
        if self.feature_layer is None:
            with torch.no_grad():
                _, self.head, _ = self._watched_pass(images)

    def check(self, images: Tensor) -> int:
        """The number of classes, from one pass of `images` [n >= 2, C, H, W].

        Raises:
            InputError: when the network does not take such images, or returns anything but logits
                [batch, classes].
        """
        logits, _, _ = self._tried(images)
        return logits.shape[1]

    def probe(self, images: Tensor) -> tuple[int, int]:
        """The numbers of classes and of features, from one pass of `images` [n >= 2, C, H, W].

        Raises:
            InputError: as `check` does, or when the network has no features.
        """
        logits, layer, features = self._tried(images)
        return logits.shape[1], self._checked_features(layer, features, len(images)).shape[1]

    def _tried(self, images: Tensor) -> tuple[Tensor, str | None, Any]:
        """What `_watched_pass` returns for images that nobody has tried yet."""
        try:
            # Not inference mode: what a network caches in its first pass must take gradients later.
            with torch.no_grad():
                logits, layer, features = self._watched_pass(images)
        except InputError:
            raise
        except Exception as error:  # a foreign network can raise anything
            raise InputError(
                self._wrong_channels(images)
                or f"it does not accept images of shape {tuple(images.shape[1:])} (channels, "
                f"height, width), which is what the data set holds: {describe_error(error)}; "
                "`image_size` and `channels` change them",
                field="classifier",
            ) from error
        shaped = isinstance(logits, Tensor) and logits.ndim == 2 and logits.is_floating_point()
        if not shaped or len(logits) != len(images) or logits.shape[1] < 2:
            raise InputError(
                f"for {len(images)} images it returns {_describe(logits)}, not logits [batch, "
                "classes]; wrap it in a module that returns those",
                field="classifier",
            )
        return logits, layer, features

    def _wrong_channels(self, images: Tensor) -> str | None:
        """What is wrong if it takes RGB where `images` are grey, or grey where they are RGB."""
        channels = images.shape[1]
        if channels not in WRONG_CHANNELS:
            return None
        try:
            with torch.no_grad():
                self(images.expand(-1, 3, -1, -1) if channels == 1 else images[:, :1])
        except Exception:  # a foreign network can raise anything
            return None
        return WRONG_CHANNELS[channels]

    def _watched_pass(self, images: Tensor) -> tuple[Tensor, str | None, Any]:
        """Logits, the layer that gives the features, and the features, not yet checked."""
        # Name, features and, of a convolution, the number of its outputs.
        ran: list[tuple[str, Any, int | None]] = []

        def keep(name: str, layer: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
            if name == self.feature_layer:
                ran.append((name, output, None))
            elif isinstance(layer, nn.Linear):
                ran.append((name, next(iter((*args, *kwargs.values()))), None))
            elif output.shape[2:] == (1, 1):
                ran.append((name, next(iter((*args, *kwargs.values()))), output.shape[1]))

        with ExitStack() as hooks:
            for name in self._watched():
                layer = self.network.get_submodule(name)
                hook = layer.register_forward_hook(partial(keep, name), with_kwargs=True)
                hooks.enter_context(hook)
            logits = self(images)
        classes = logits.shape[-1] if isinstance(logits, Tensor) and logits.ndim else None
        heads = [(name, features) for name, features, width in ran if width in (None, classes)]
        return logits, *(heads[-1] if heads else (None, None))

    def _watched(self) -> list[str]:
        known = self.feature_layer or self.head
        if known is not None:
            return [known]
        kinds = (nn.Linear, nn.Conv2d)
        return [name for name, m in self.network.named_modules() if isinstance(m, kinds)]

    def _checked_features(self, layer: str | None, features: Any, images: int) -> Tensor:
        """The features of so many images, flattened for each."""
        if layer is None:
            raise InputError(self._no_features(), field="feature_layer")
        if not isinstance(features, Tensor) or features.shape[:1] != (images,):
            raise InputError(
                f"{layer} gives {_describe(features)}, not one tensor with features for each "
                "image; name a different layer",
                field="feature_layer",
            )
        return features.flatten(1)

    def _no_features(self) -> str:
        if self.feature_layer is not None:
            return f"{self.feature_layer} does not run when images are classified"
        leaves = [name for name, m in self.network.named_modules() if not any(m.children())]
        return (
            "training needs features, and the classifier has no layer for its classes alone whose "
            f"input they could be; name the layer that computes them, such as "
            f"{', '.join(leaves[-4:])}"
        )


def _describe(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)} and type {value.dtype}"
    return f"a {type(value).__name__}"


def _check_normalisation(mean: Sequence[float], std: Sequence[float]) -> None:
    for field, values in (("mean", mean), ("std", std)):
        if not values or not all(map(math.isfinite, values)):
            raise InputError(f"{list(values)} are not finite numbers", field=field)
        if max(values) > 1:
            fitting = ",".join(f"{value / 255:.4g}" for value in values)
            problem = (
                f"{max(values):g} is above 1, but pixels are from 0 to 1; divide by 255: {fitting}"
            )
            raise InputError(problem, field=field)
    if min(std) <= 0:
        problem = f"{min(std)} is not positive; pass the pixels' standard deviation"
        raise InputError(problem, field="std")
