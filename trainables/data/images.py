"""Labelled images, and data sets of training and test images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.data.form import ImageForm
from trainables.data.forming import pixels_in_form


class Images(Protocol):
    """Labelled images that are decoded only when they are needed."""

    @property
    def labels(self) -> Tensor:
        """Class of each image: int64 [images]."""
        ...

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices` as float32 [n, channels, height, width] in [0, 1]."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images already in memory, [images, channels, height, width], with int64 labels [images].

    They are float32 in [0, 1], or uint8 in 0 to 255, which takes a quarter of the memory.
    """

    tensor: Tensor
    labels: Tensor

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width] in [0, 1]."""
        images = self.tensor[list(indices)]
        return images.float().div(255) if images.dtype == torch.uint8 else images


@dataclass(frozen=True)
class FormedImages:
    """Images with 8 bits a pixel, brought into a form when they are needed."""

    images: Images
    form: ImageForm

    @property
    def labels(self) -> Tensor:
        """Class of each image: int64 [images]."""
        return self.images.labels

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width] in [0, 1]."""
        pixels = self.images.load(indices).mul(255).round().byte()
        # Pillow has grey images without an axis for channels.
        arrays = [image.permute(1, 2, 0).squeeze(2).numpy() for image in pixels]
        formed = np.stack([pixels_in_form(Image.fromarray(each), self.form) for each in arrays])
        return torch.from_numpy(formed).permute(0, 3, 1, 2).float().div(255)


@dataclass(frozen=True)
class Dataset:
    """Training images, from which the shots are drawn, and test images, for certification only.

    Pixels are multiples of 1 / `pixel_steps`. `notes` are lines about what was left out or changed
    when the images were read.
    """

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images
    pixel_steps: int = 255
    notes: tuple[str, ...] = ()


def say_notes(datasets: Iterable[Dataset], say: Callable[[str], None]) -> None:
    """Say once what was left out of each data set, or changed."""
    for line in dict.fromkeys(f"{each.name}: {note}" for each in datasets for note in each.notes):
        say(line)
