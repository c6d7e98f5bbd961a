"""How fast a device votes, measured by a few passes."""

from __future__ import annotations

import time
from statistics import median

from torch import Tensor, nn

from trainables.acceleration.voting import Precision, prepared
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import BLOCK_SIZE, Block, Noise

# Blocks of votes that are timed, after one that is not.
BLOCKS = 3


def seconds_a_vote(model: nn.Module, image: Tensor, precision: Precision) -> float:
    """Seconds that a vote of `model` on `image` [C, H, W] takes on its device."""
    voting = prepared(model, image.shape, precision)
    seconds = []
    for _ in range(1 + BLOCKS):
        started = time.perf_counter()
        total_votes(voting, image, Noise(0.25), [Block(BLOCK_SIZE, 0)])
        seconds.append(time.perf_counter() - started)
    return median(seconds[1:]) / BLOCK_SIZE
