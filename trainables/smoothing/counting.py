"""Votes under noise, for many images in each forward pass.

Source: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
ICML 2019, Section 3.2.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.smoothing.noise import Block, Noise, draw_noise
from trainables.smoothing.quantised import quantised_copies

# Pixels per forward pass, by kind of device: few enough for the activations to stay in a CPU's
# cache, and enough to keep a GPU busy while Python prepares the next pass.
FORWARD_PIXELS = {"cpu": 2**14, "cuda": 2**20}
# Large images leave no cache to be gained, and a few of them at once are up to a fifth faster. So
# many copies make a pass, unless they have more pixels than this.
FEW_COPIES, FEW_PIXELS = 4, 2**18


class Piece(NamedTuple):
    """Noisy copies of `image` [C, H, W], as many as there are draws in `blocks`."""

    image: Tensor
    noise: Noise
    blocks: Sequence[Block]

    def copies(self, block: Block) -> Tensor:
        """The copies of one block: float32 [block.size, C, H, W]."""
        if self.noise.pixel_steps:
            return quantised_copies(self.image, self.noise, block)
        noise = draw_noise(block, self.image.shape, self.noise.sigma, self.image.device)
        # In double precision as well: each pixel is rounded once, to float32.
        return noise.add_(self.image).float()


def forward_pixels(device: torch.device) -> int:
    """How many pixels, not counting channels, go through the model at once."""
    return FORWARD_PIXELS.get(device.type, FORWARD_PIXELS["cpu"])


def forward_batch(image: Tensor) -> int:
    """How many noisy copies of images of the shape of `image` [C, H, W] make a forward pass."""
    pixels = image.shape[-2] * image.shape[-1]
    return max(1, forward_pixels(image.device) // pixels, min(FEW_COPIES, FEW_PIXELS // pixels))


@torch.inference_mode()
def count_votes(model: nn.Module, pieces: Sequence[Piece]) -> Tensor:
    """Votes per class over the copies of each piece: int64 [pieces, classes].

    All images have the same shape, and are on the model's device. The vote of a copy depends only
    on the copy: all passes have the same size, and its place in a pass does not matter.

    A copy whose largest logit is tied, or with a logit that is not finite, votes for no class, so
    the counts of a piece sum to at most its draws. The model must be in evaluation mode.
    """
    counts: Tensor | None = None
    for copies, owners in _passes(pieces):
        logits = model(copies.contiguous(memory_format=torch.channels_last)).float()
        top = logits.topk(2, dim=1)
        valid = logits.isfinite().all(dim=1) & (top.values[:, 0] > top.values[:, 1])
        classes = logits.shape[1]
        if counts is None:
            size = (len(pieces) + 1) * classes
            counts = torch.zeros(size, dtype=torch.int64, device=logits.device)
        # Unlike indexing with `valid`, this does not wait for the device.
        counts.scatter_add_(0, owners * classes + top.indices[:, 0], valid.long())
    assert counts is not None, "there must be at least one draw"
    return counts.view(len(pieces) + 1, -1)[:-1]


def total_votes(
    model: nn.Module, image: Tensor, noise: Noise, blocks: Sequence[Block]
) -> list[int]:
    """Votes per class on `image` [C, H, W] over all `blocks`, as `count_votes` counts them."""
    votes: list[int] = count_votes(model, [Piece(image, noise, blocks)])[0].tolist()
    return votes


def _passes(pieces: Sequence[Piece]) -> Iterator[tuple[Tensor, Tensor]]:
    """All copies in batches of the same size [rows, C, H, W], and the number of each one's piece.

    The last batch is padded; padding rows are counted into a spare row. Their pixels are NaN, so
    that no endpoint is asked about them.
    """
    rows = forward_batch(pieces[0].image)
    copies: list[Tensor] = []
    owners: list[Tensor] = []
    held = 0
    for number, piece in enumerate(pieces):
        for block in piece.blocks:
            copies.append(piece.copies(block))
            owners.append(torch.full((block.size,), number, device=piece.image.device))
            held += block.size
            if held >= rows:
                whole = held - held % rows
                joined, whose = torch.cat(copies), torch.cat(owners)
                yield from zip(joined[:whole].split(rows), whose[:whole].split(rows), strict=True)
                copies, owners, held = [joined[whole:]], [whose[whole:]], held - whole
    if held:
        image = pieces[-1].image
        copies.append(image.new_full((rows - held, *image.shape), math.nan))
        owners.append(torch.full((rows - held,), len(pieces), device=image.device))
        yield torch.cat(copies), torch.cat(owners)
