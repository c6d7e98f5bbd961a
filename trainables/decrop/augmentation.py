"""Random crops and flips of a training batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.decrop.config import DecropConfig


class Moves(NamedTuple):
    """Where each image's crop starts in the padded image, int64 [batch], and whether it is flipped.

    The padding is the same on all sides.
    """

    down: Tensor
    right: Tensor
    flips: Tensor
    padding: int


def augment(views: list[Tensor], config: DecropConfig, generator: torch.Generator) -> list[Tensor]:
    """Crop and flip each image of each view, all [batch, C, H, W].

    The views are the images and their generated samples. Paired augmentation moves an image and its
    samples in the same way; otherwise each moves independently, as in the published code.
    """
    moves = draw_moves(views[0], config.crop_padding, config.flip, generator)
    augmented = []
    for view in views:
        augmented.append(move_images(view, moves))
        if not config.paired_augmentation:
            moves = draw_moves(view, config.crop_padding, config.flip, generator)
    return augmented


def draw_moves(images: Tensor, padding: int, flip: bool, generator: torch.Generator) -> Moves:
    """A random crop for each of `images` [batch, C, H, W], and for half of them a flip."""
    count, device = len(images), images.device
    down, right = torch.randint(0, 2 * padding + 1, (2, count), generator=generator, device=device)
    flips = torch.rand(count, generator=generator, device=device) < 0.5
    return Moves(down, right, flips & flip, padding)


def move_images(images: Tensor, moves: Moves) -> Tensor:
    """The crops of `images` [batch, C, H, W], with the same size."""
    batch, _, height, width = images.shape
    rows = torch.arange(height, device=images.device)
    columns = torch.arange(width, device=images.device).expand(batch, width)
    columns = torch.where(moves.flips[:, None], width - 1 - columns, columns)
    rows, columns = moves.down[:, None] + rows, moves.right[:, None] + columns
    padded = F.pad(images, (moves.padding,) * 4)
    index = torch.arange(batch, device=images.device)[:, None, None]
    # Advanced indices around a slice put the channels last.
    moved = padded[index, :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2).contiguous()
