"""Generated samples of a whole training set, made once for all trials that need the same ones."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from trainables.acceleration.folding import folded
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig, EightBits
from trainables.decrop.generation import Attack, boundary_samples, interpolated_samples
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import weights_hash

# Pixels per forward pass: few enough for the activations to stay in a CPU's cache.
BATCH_PIXELS = {"cpu": 131_072, "cuda": 1_048_576}
# What each kind of sample depends on, besides the classifier, the images, the seed and precision.
BOUNDARY_FIELDS = ("attack_radius", "step_size", "attack_steps")
INTERPOLATION_FIELDS = ("mix", "interpolation_steps", "interpolation_learning_rate")


class GeneratedSamples(NamedTuple):
    """Boundary and interpolated samples of the same images, both [images, C, H, W] in [0, 1]."""

    boundary: Tensor
    interpolated: Tensor


class SampleStore(Protocol):
    """Where samples are kept by key; losing them costs time, never correctness."""

    def get(self, key: str) -> Tensor | None:
        """The samples stored under `key`, or None."""
        ...

    def put(self, key: str, samples: Tensor) -> None:
        """Store `samples` under `key`; a key always stands for the same samples."""
        ...


class MemoryStore(dict[str, Tensor]):
    """Samples kept in this process."""

    def put(self, key: str, samples: Tensor) -> None:
        """Store `samples` under `key`."""
        self[key] = samples


def generate(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    config: DecropConfig,
    seed: int,
    store: SampleStore,
) -> GeneratedSamples:
    """Boundary and interpolated samples of `images` [n, C, H, W] in [0, 1], labels int64 [n].

    They come from `store` if it has them: the key is a hash of all they depend on. Under autocast
    they are computed in its precision.
    """
    rounded = torch.is_autocast_enabled(images.device.type)
    precision: Precision = "bfloat16" if rounded else "float32"
    fast = cache(partial(folded, classifier, images[:2]))
    source = source_hash(classifier, images, labels, precision)
    key = partial(sample_key, source, config, seed=seed)

    def make_boundary() -> Tensor:
        return _boundary(fast(), images, labels, config, seed)

    def make_interpolated() -> Tensor:
        return _interpolated(fast(), images, boundary, config)

    # A worker with a different device may have stored them.
    boundary = _cached(store, key(BOUNDARY_FIELDS), make_boundary).to(images.device)
    fields = BOUNDARY_FIELDS + INTERPOLATION_FIELDS
    interpolated = _cached(store, key(fields), make_interpolated).to(images.device)
    samples = (boundary, interpolated)
    return GeneratedSamples(*(_as_stored(pixels, config.eight_bits) for pixels in samples))


def _as_stored(pixels: Tensor, eight_bits: EightBits) -> Tensor:
    """What is left of `pixels` in an image file; the published code truncates."""
    if eight_bits == "none":
        return pixels
    levels = pixels.mul(255)
    levels = levels.floor() if eight_bits == "truncated" else levels.round()
    return levels.div(255)


def _boundary(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, config: DecropConfig, seed: int
) -> Tensor:
    generator = torch.Generator(images.device).manual_seed(seed)
    attack = Attack(config.attack_radius, config.step_size, config.attack_steps)
    return _batched(
        lambda x, y: boundary_samples(classifier, x, y, attack, generator), (images, labels)
    )


def _interpolated(
    classifier: BaseClassifier, images: Tensor, boundary: Tensor, config: DecropConfig
) -> Tensor:
    return _batched(
        lambda x, x_boundary: interpolated_samples(
            classifier,
            x,
            x_boundary,
            mix=config.mix,
            steps=config.interpolation_steps,
            learning_rate=config.interpolation_learning_rate,
        ),
        (images, boundary),
    )


def source_hash(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, precision: Precision
) -> str:
    """A hash of the classifier, the images, their labels, the kind of device, and the precision."""
    source = f"{weights_hash(classifier)} {images.device.type} {precision}"
    digest = hashlib.sha256(source.encode())
    for tensor in (images, labels):
        digest.update(str(tuple(tensor.shape)).encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def sample_key(source: str, config: DecropConfig, fields: tuple[str, ...], seed: int) -> str:
    """A hash of the `source_hash`, of the `fields` of `config`, and of the seed."""
    numbers = {name: getattr(config, name) for name in fields}
    return hashlib.sha256(json.dumps([source, numbers, seed]).encode()).hexdigest()


def _cached(store: SampleStore, key: str, make: Callable[[], Tensor]) -> Tensor:
    found = store.get(key)
    if found is None:
        found = make()
        store.put(key, found)
    return found


def _batched(make: Callable[[Tensor, Tensor], Tensor], inputs: tuple[Tensor, Tensor]) -> Tensor:
    first, second = inputs
    size = max(1, BATCH_PIXELS[first.device.type] // (first.shape[-2] * first.shape[-1]))
    made = [
        make(x.to(memory_format=torch.channels_last), y)
        for x, y in zip(first.split(size), second.split(size), strict=True)
    ]
    return torch.cat(made).contiguous()
