"""Random crops and flips of a training batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.decrop.config import DecropConfig


def augment(views: list[Tensor], config: DecropConfig, generator: torch.Generator) -> list[Tensor]:
    """Crop and flip each image of each view, all [batch, C, H, W].

    The views are an image and its generated samples. Paired augmentation moves them alike;
    otherwise each is moved on its own, as in the published code.
    """
    moves = _draw(views[0], config, generator)
    augmented = []
    for view in views:
        augmented.append(_move(view, moves, config.crop_padding))
        if not config.paired_augmentation:
            moves = _draw(view, config, generator)
    return augmented


def _draw(
    view: Tensor, config: DecropConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    offsets = torch.randint(
        0, 2 * config.crop_padding + 1, (2, len(view)), generator=generator, device=view.device
    )
    flips = torch.rand(len(view), generator=generator, device=view.device) < 0.5
    return offsets[0], offsets[1], flips & config.flip


def _move(view: Tensor, moves: tuple[Tensor, Tensor, Tensor], padding: int) -> Tensor:
    down, right, flips = moves
    batch, _, height, width = view.shape
    rows = torch.arange(height, device=view.device)
    columns = torch.arange(width, device=view.device).expand(batch, width)
    columns = torch.where(flips[:, None], width - 1 - columns, columns)
    padded = F.pad(view, (padding,) * 4)
    index = torch.arange(batch, device=view.device)[:, None, None]
    # Advanced indices around a slice put the channels last.
    moved = padded[
        index, :, (down[:, None] + rows)[:, :, None], (right[:, None] + columns)[:, None, :]
    ]
    return moved.permute(0, 3, 1, 2).contiguous()
