"""Gaussian noise rounded to the grid of the pixels, drawn and added as integers.

When noise is added in floating point, the sum is rounded, in a way that can depend on the image.
Here a pixel is a whole number of steps of its grid, and so is its noise; only their sum becomes a
float, so that the network sees nothing but that sum.
Source: Voracek and Hein 2023 (sound randomized smoothing in floating-point arithmetic).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Context, Decimal, localcontext
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.choices import NoiseName
from trainables.data.datasets import Dataset
from trainables.data.splits import HeldOutImages
from trainables.errors import InputError
from trainables.smoothing.noise import Block, Noise

# Bits of a uniform integer: as many as a non-negative int64 has.
BITS = 63
_GUIDE_BITS = 16
# Allowance for rounding errors in a bound and its radius, as a probability. In doubles both are
# accurate to about 1e-14.
ROUNDING = 1e-12
# How far from the grid a pixel may be, in steps: most eight-bit pixels are inexact in float32.
_GRID_TOLERANCE = 1e-3
_EXACT = Context(prec=50)
_PI = Decimal("3.1415926535897932384626433832795028841971693993751")
# Terms of a series below this are left out.
_SMALLEST_TERM = Decimal("1e-40")


def on_grid(images: Tensor, pixel_steps: int) -> bool:
    """Whether all pixels of `images` (any shape) are multiples of 1 / `pixel_steps`."""
    steps = images.double() * pixel_steps
    return bool(((steps - steps.round()).abs() <= _GRID_TOLERANCE).all())


def steps_of(noise: NoiseName, dataset: Dataset, test: HeldOutImages) -> int:
    """Steps between 0 and 1 of the grid to which the noise is rounded; 0 for Gaussian noise.

    Raises:
        InputError: when the images to certify are not on the grid of their data set.
    """
    if noise == "gaussian":
        return 0
    if not on_grid(test.images, dataset.pixel_steps):
        raise InputError(
            f"quantised needs pixels that are multiples of 1/{dataset.pixel_steps}, but those of "
            f"{dataset.name} are not; pass gaussian",
            field="noise",
        )
    return dataset.pixel_steps


@cache
def tails(noise: Noise) -> tuple[int, ...]:
    """2^63 P(noise of k steps or more), as whole numbers, for k = 1, 2, ... until that is 0.

    Each is within 1/2 + 1e-20 of the exact number.
    """
    found: list[int] = []
    with localcontext(_EXACT):
        deviation = Decimal(noise.sigma) * noise.pixel_steps
        while tail := round(2**BITS * _upper_tail((len(found) + Decimal("0.5")) / deviation)):
            found.append(tail)
    return tuple(found)


def allowance(noise: Noise, shape: Sequence[int]) -> float:
    """What must be subtracted from a bound, as a probability, for the `noise` of `shape`.

    That is the total variation distance between the drawn and the exact noise, plus `ROUNDING`. For
    each pixel, every cumulative probability in the table is off by little more than 2^-64, and what
    lies beyond either end of it has a probability of little more than 2^-64. 0 for Gaussian noise.
    """
    if not noise.pixel_steps:
        return 0.0
    of_pixel = (2 * len(tails(noise)) + 3) * 2.0 ** -(BITS + 1)
    return math.prod(shape) * of_pixel + ROUNDING


def draw_steps(block: Block, shape: torch.Size, noise: Noise, device: torch.device) -> Tensor:
    """The block's noise in steps, N(0, sigma^2) rounded: int32 [block.size, *shape]."""
    table = _table(noise, device)
    generator = torch.Generator(device).manual_seed(block.seed)
    # Every integer from 0 to 2^63 - 1 is equally likely.
    uniform = torch.empty(block.size * math.prod(shape), dtype=torch.int64, device=device)
    uniform.random_(generator=generator)
    if device.type == "cpu":
        below = table.guide.index_select(0, uniform >> (BITS - _GUIDE_BITS))
        unclear = (below < 0).nonzero().squeeze(1)
        below[unclear] = table.below(uniform[unclear])
    else:
        # Asking an accelerator which are unclear would mean waiting for it; searching all is fast.
        below = table.below(uniform)
    return below.view(block.size, *shape) - len(table.thresholds) // 2


def quantised_copies(image: Tensor, noise: Noise, block: Block) -> Tensor:
    """Noisy copies of `image` [C, H, W], which is on the grid: float32 [block.size, C, H, W]."""
    steps = (image * noise.pixel_steps).round().int()
    drawn = draw_steps(block, image.shape, noise, image.device)
    return (steps + drawn).float() / noise.pixel_steps


class _Table(NamedTuple):
    """`thresholds` are 2^63 P(noise of at most k steps), for k in order: int64.

    `guide`, int32, holds how many of them are at or below an integer with given leading bits, or -1
    if that depends on the other bits. With it, most draws need no search.
    """

    thresholds: Tensor
    guide: Tensor

    def below(self, uniform: Tensor) -> Tensor:
        """How many thresholds are at or below each of `uniform`: int32."""
        return torch.searchsorted(self.thresholds, uniform, right=True, out_int32=True)


@cache
def _table(noise: Noise, device: torch.device) -> _Table:
    upper = tails(noise)
    numbers = [*reversed(upper), *(2**BITS - tail for tail in upper)]
    table = _Table(torch.tensor(numbers, dtype=torch.int64, device=device), torch.empty(0))
    size = 2 ** (BITS - _GUIDE_BITS)
    first = torch.arange(2**_GUIDE_BITS, device=device) * size
    low, high = table.below(first), table.below(first + (size - 1))
    return table._replace(guide=torch.where(low == high, low, -1))


def _upper_tail(x: Decimal) -> Decimal:
    """P(N(0, 1) > x) for x > 0, with an absolute error below 1e-39.

    Phi(x) - 1/2 is the density times x + x^3/3 + x^5/(3 5) + ..., a series of positive terms.
    Source: Marsaglia 2004.
    """
    term, series, divisor = x, Decimal(0), 1
    while term > _SMALLEST_TERM:
        series += term
        divisor += 2
        term *= x * x / divisor
    density = (-x * x / 2).exp() / (2 * _PI).sqrt()
    return Decimal("0.5") - density * series
