"""The noise of a certificate, drawn in blocks of fixed size, each with its own seed.

A block's noise depends on nothing but its seed, so neither the number of workers nor a retry can
change a vote.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

BLOCK_SIZE = 100


class Noise(NamedTuple):
    """The noise that a certificate is about: Gaussian, with standard deviation `sigma` per pixel.

    `sigma` is in pixel units on the [0, 1] scale. With `pixel_steps` the noise is rounded to
    multiples of 1 / `pixel_steps`, as the images are; 0 stands for Gaussian noise.
    """

    sigma: float
    pixel_steps: int = 0


class Block(NamedTuple):
    """`size` noise draws from the random stream `seed`."""

    size: int
    seed: int


def derive_seed(*parts: str | int | float) -> int:
    """A seed in [0, 2^63) that depends on all `parts`, the same on every machine."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def plan_blocks(stop: int, *key: str | int | float, start: int = 0) -> list[Block]:
    """Blocks that together hold the draws from `start` to `stop`; `key` names the random streams.

    Every block holds `BLOCK_SIZE` draws, except that the last one holds the rest.

    Raises:
        ValueError: if `start` is in the middle of a block.
    """
    if start % BLOCK_SIZE:
        raise ValueError(f"start must be a multiple of {BLOCK_SIZE}; got {start}")
    seed = derive_seed(*key)
    return [
        # PyTorch's CPU generators, which quantised noise is drawn with, use only the low 32 bits:
        # all blocks differ in them.
        Block(min(BLOCK_SIZE, stop - first), (seed + first // BLOCK_SIZE) % 2**63)
        for first in range(start, stop, BLOCK_SIZE)
    ]


def draw_noise(block: Block, shape: torch.Size, sigma: float, device: torch.device) -> Tensor:
    """The block's noise, N(0, sigma^2): float64 [block.size, *shape].

    In double precision, because PyTorch's float32 sampler on a CPU draws from uniforms of 24 bits:
    it has nothing beyond 5.77 sigma and large gaps before that. These draws are finer than 1e-6
    sigma up to 10 sigma (docs/certification.md).
    """
    size = (block.size, *shape)
    if device.type == "cpu":
        # A ziggurat, which is twice as fast as PyTorch's Box-Muller in doubles.
        stream = np.random.Generator(np.random.SFC64(block.seed))
        return torch.from_numpy(stream.standard_normal(size)).mul_(sigma)
    generator = torch.Generator(device).manual_seed(block.seed)
    normal = torch.randn(size, generator=generator, dtype=torch.float64, device=device)
    return normal.mul_(sigma)
