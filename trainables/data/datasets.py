"""The data sets a run can use, as labelled images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.errors import InputError

DATASETS = ("digits", "folder")
IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
# The split of digits is part of the data set: the cached classifier was trained on one side of it.
DIGITS_TEST_IMAGES = 500


class Images(Protocol):
    """Labelled images that are decoded only when they are asked for."""

    @property
    def labels(self) -> Tensor:
        """Class of each image: int64 [images]."""
        ...

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices` as float32 [n, channels, height, width] in [0, 1]."""
        ...


@dataclass(frozen=True)
class TensorImages:
    """Images already in memory, with int64 labels [images]."""

    tensor: Tensor
    labels: Tensor

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width]."""
        return self.tensor[list(indices)]


@dataclass(frozen=True)
class FolderImages:
    """Image files, decoded on demand, with int64 labels [images]."""

    paths: tuple[Path, ...]
    labels: Tensor

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width].

        Raises:
            InputError: when a file is no image, or differs in shape from the first one.
        """
        images = [_decode(self.paths[i]) for i in indices]
        for index, image in zip(indices, images, strict=True):
            if image.shape != images[0].shape:
                raise InputError(
                    f"--data-dir: {self.paths[index]} is {_describe(image)}, but "
                    f"{self.paths[indices[0]]} is {_describe(images[0])}; "
                    "make all images the same size and colour mode"
                )
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(255)


@dataclass(frozen=True)
class Dataset:
    """Training images, from which the shots are drawn, and test images, for certification only."""

    name: str
    classes: tuple[str, ...]
    train: Images
    test: Images


def load_dataset(name: str, data_dir: Path | None = None) -> Dataset:
    """The data set called `name`; `data_dir` is where a `folder` lies.

    Raises:
        InputError: for an unknown name, a missing or empty folder, or files that are no images.
    """
    if name == "digits":
        return _digits()
    if name == "folder":
        if data_dir is None:
            raise InputError("--data-dir: the data set `folder` needs it; name the image folder")
        return _folder(data_dir)
    raise InputError(f"--dataset: {name!r} is unknown; choose one of {', '.join(DATASETS)}")


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().div(16).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target).long()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST_IMAGES, random_state=0, stratify=target
    )
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        train=TensorImages(images[train], labels[train]),
        test=TensorImages(images[test], labels[test]),
    )


def _folder(root: Path) -> Dataset:
    for part in (root, root / "train", root / "test"):
        if not part.is_dir():
            raise InputError(
                f"--data-dir: {part} is no folder; a data folder holds train/CLASS/IMAGE and "
                "test/CLASS/IMAGE"
            )
    classes = _class_names(root / "train")
    if classes != _class_names(root / "test"):
        raise InputError(f"--data-dir: {root}/train and {root}/test hold different classes")
    return Dataset(
        name="folder",
        classes=classes,
        train=_list_images(root / "train", classes),
        test=_list_images(root / "test", classes),
    )


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    if len(names) < 2:
        raise InputError(f"--data-dir: {folder} has {len(names)} class folders; it needs 2 or more")
    return names


def _list_images(folder: Path, classes: Sequence[str]) -> FolderImages:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES)
        if not found:
            raise InputError(f"--data-dir: {folder / name} holds no images")
        paths += found
        labels += [label] * len(found)
    return FolderImages(tuple(paths), torch.tensor(labels))


def _decode(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pixels of one file, uint8 [height, width, channels]; one channel if the file is grey."""
    try:
        with Image.open(path) as image:
            # Conversion would clip deeper pixels to 8 bits.
            if image.mode.startswith(("I", "F")):
                raise InputError(
                    f"--data-dir: {path} has pixels of more than 8 bits; save it with 8 bits"
                )
            pixels = np.asarray(image.convert("L" if image.mode in {"1", "L"} else "RGB"))
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f"--data-dir: {path} cannot be read as an image; remove it") from error
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _describe(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> str:
    height, width, channels = image.shape
    return f"{width} x {height} {'grey' if channels == 1 else 'RGB'}"
