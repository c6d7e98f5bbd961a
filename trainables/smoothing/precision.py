"""The precision in which a model votes fastest."""

from __future__ import annotations

import time
from contextlib import suppress

from torch import Tensor, nn

from trainables.acceleration.voting import Precision, prepared
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import BLOCK_SIZE, Block, Noise

# How much faster bfloat16 has to be: far more than timings vary on a busy machine, so that a second
# start makes the same choice.
MIN_SPEEDUP = 1.5
# The measurement takes at least this many seconds, and this many rounds.
_SECONDS, _ROUNDS = 0.5, 3


def choose_precision(model: nn.Module, image: Tensor) -> Precision:
    """The precision in which `model` votes fastest on `image` [C, H, W] and its device.

    bfloat16 has to be faster by a half, and to give as many valid votes. A model with a part that
    cannot be prepared stays in float32.
    """
    parts = list(model) if isinstance(model, nn.Sequential) else [model]
    if not all(isinstance(part, Denoiser | BaseClassifier) for part in parts):
        return "float32"
    exact = prepared(model, image.shape, "float32")
    with suppress(Exception):  # a foreign network can raise anything in a different precision
        rounded = prepared(model, image.shape, "bfloat16")
        blocks, noise = [Block(BLOCK_SIZE, 0)], Noise(0.25)
        valid = [sum(total_votes(m, image, noise, blocks)) for m in (exact, rounded)]
        seconds: dict[nn.Module, list[float]] = {exact: [], rounded: []}
        # Alternating, so that a busy moment affects both.
        while len(seconds[exact]) < _ROUNDS or sum(sum(s) for s in seconds.values()) < _SECONDS:
            for candidate, found in seconds.items():
                started = time.perf_counter()
                total_votes(candidate, image, noise, blocks)
                found.append(time.perf_counter() - started)
        if valid[0] == valid[1] and min(seconds[exact]) > MIN_SPEEDUP * min(seconds[rounded]):
            return "bfloat16"
    return "float32"
