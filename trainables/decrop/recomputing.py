"""Activations that are computed again in the backward pass instead of kept: for large images.

A step takes a third longer, and memory for a few images instead of all of them. It computes the
same, except for rounding in batches of a different size.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser

# The most pixels, not counting channels, in the noisy images of a step whose activations are kept:
# a 17 x 64 DnCNN keeps 8 kB for each, and a ResNet-50 up to 2 kB. It does not depend on the
# machine, so neither do the sums.
KEPT_PIXELS = 2**20
# Pixels in one pass of the classifier.
PASS_PIXELS = 2**18


def too_large(noisy: Tensor) -> bool:
    """Whether a step on the images [n, C, H, W] would keep too many activations."""
    return len(noisy) * _pixels(noisy) > KEPT_PIXELS


def denoise(network: Denoiser, noisy: Tensor) -> Tensor:
    """What `network(noisy)` computes, keeping only what goes from one of its stages to the next.

    In training, batch norm sees each batch twice; its statistics are updated once.
    """
    hidden = noisy
    for stage in network.stages():
        hidden = checkpoint(
            stage,
            hidden,
            use_reentrant=False,
            preserve_rng_state=False,
            context_fn=partial(_contexts, network),
        )
    return noisy - hidden


def classify(classifier: BaseClassifier, images: Tensor) -> tuple[Tensor, Tensor]:
    """What `classifier.logits_and_features(images)` computes, a few images at a time."""
    passes = [
        checkpoint(
            classifier.logits_and_features, part, use_reentrant=False, preserve_rng_state=False
        )
        for part in images.split(max(1, PASS_PIXELS // _pixels(images)))
    ]
    logits, features = (torch.cat(parts) for parts in zip(*passes, strict=True))
    return logits, features


def _pixels(images: Tensor) -> int:
    return images.shape[-2] * images.shape[-1]


def _contexts(
    network: Denoiser,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the computation of a stage, and its repetition."""
    return nullcontext(), _statistics_kept(network)


@contextmanager
def _statistics_kept(network: Denoiser) -> Iterator[None]:
    """Leave batch norm's statistics as they are before the block."""
    kept = [(buffer, buffer.clone()) for buffer in network.buffers()]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)
