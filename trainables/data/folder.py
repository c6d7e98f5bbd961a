"""A user's own image folder, split into train/ and test/ or left whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from trainables.data.images import Dataset
from trainables.errors import InputError

IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
GREY_MODES = {"1", "L", "LA"}
# What Pillow raises for files that are damaged or not images.
IMAGE_ERRORS = (OSError, SyntaxError, TypeError, ValueError, Image.DecompressionBombError)
LAYOUTS = "a data folder holds train/CLASS/IMAGE and test/CLASS/IMAGE, or else CLASS/IMAGE"
# A whole folder is split in the same way for every seed of a run: a base classifier may have been
# trained on one side, and must not be certified on images it has seen.
SPLIT_SEED = 0
TEST_SHARE = 5


class Shape(NamedTuple):
    """Width and height of an image in pixels, and its channels: 1 if it is grey, else 3."""

    width: int
    height: int
    channels: int

    def __str__(self) -> str:
        return f"{self.width} x {self.height} {'grey' if self.channels == 1 else 'RGB'}"


@dataclass(frozen=True)
class FolderImages:
    """Image files of one shape, decoded on demand, with int64 labels [images]."""

    paths: tuple[Path, ...]
    labels: Tensor

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width].

        Raises:
            InputError: when the pixels of a file are damaged.
        """
        pixels = torch.from_numpy(np.stack([_decode(self.paths[i]) for i in indices]))
        return pixels.permute(0, 3, 1, 2).float().div(255)


def load_folder(root: Path) -> Dataset:
    """The images under `root`, the classes numbered by name.

    `root` holds train/CLASS/IMAGE and test/CLASS/IMAGE, or only CLASS/IMAGE; then one image in five
    of each class is for testing, always the same ones.

    Raises:
        InputError: for a folder with a different layout, with too few images, with files that are
            not images, or with images that differ in size or colour mode.
    """
    try:
        return _load(root)
    except OSError as error:
        raise InputError(
            f"{error.filename or root} cannot be read ({error.strerror}); {LAYOUTS}",
            field="data_dir",
        ) from error


def _load(root: Path) -> Dataset:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; {LAYOUTS}", field="data_dir")
    sides = [root / side for side in ("train", "test")]
    missing = [side for side in sides if not side.is_dir()]
    if len(missing) == 1:
        raise InputError(f"{missing[0]} is not a folder; {LAYOUTS}", field="data_dir")
    if missing:
        classes = _class_names(root)
        whole = _list_images(root, classes)
        _check_shapes(whole.paths)
        train, test = _split(whole, classes)
    else:
        classes = _class_names(sides[0])
        if classes != _class_names(sides[1]):
            raise InputError(f"{sides[0]} and {sides[1]} hold different classes", field="data_dir")
        train, test = (_list_images(side, classes) for side in sides)
        _check_shapes(train.paths + test.paths)
    return Dataset("folder", classes, train, test)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = tuple(sorted(p.name for p in folder.iterdir() if p.is_dir()))
    if len(names) < 2:
        raise InputError(
            f"{folder} has {len(names)} class folders; it needs 2 or more ({LAYOUTS})",
            field="data_dir",
        )
    return names


def _list_images(folder: Path, classes: Sequence[str]) -> FolderImages:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = [p for p in (folder / name).iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
        if not found:
            raise InputError(f"{folder / name} holds no images", field="data_dir")
        paths += sorted(found, key=lambda path: path.name)
        labels += [label] * len(found)
    return FolderImages(tuple(paths), torch.tensor(labels))


def _split(whole: FolderImages, classes: Sequence[str]) -> tuple[FolderImages, FolderImages]:
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    held_out = torch.zeros(len(whole.paths), dtype=torch.bool)
    for label, name in enumerate(classes):
        members = torch.nonzero(whole.labels == label).flatten()
        if len(members) < 2:
            raise InputError(
                f"class {name!r} has 1 image; without train/ and test/ each class needs at least "
                "2, one of them for testing",
                field="data_dir",
            )
        drawn = torch.randperm(len(members), generator=generator)
        held_out[members[drawn[: max(1, len(members) // TEST_SHARE)]]] = True
    return _select(whole, ~held_out), _select(whole, held_out)


def _select(images: FolderImages, mask: Tensor) -> FolderImages:
    paths = tuple(p for p, chosen in zip(images.paths, mask.tolist(), strict=True) if chosen)
    return FolderImages(paths, images.labels[mask])


def _check_shapes(paths: Sequence[Path]) -> None:
    first = _shape(paths[0])
    for path in paths[1:]:
        shape = _shape(path)
        if shape != first:
            raise InputError(
                f"{path} is {shape}, but {paths[0]} is {first}; make all images the same size and "
                "colour mode",
                field="data_dir",
            )


def _shape(path: Path) -> Shape:
    with _opened(path) as image:
        size, mode = image.size, image.mode
    # The conversion to 8 bits would clip the values of deeper pixels.
    if mode.startswith(("I", "F")):
        problem = f"{path} has pixels of more than 8 bits; save it with 8 bits"
        raise InputError(problem, field="data_dir")
    return Shape(*size, 1 if mode in GREY_MODES else 3)


def _decode(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """Pixels of one file, uint8 [height, width, channels]."""
    with _opened(path) as image:
        pixels = np.asarray(image.convert("L" if image.mode in GREY_MODES else "RGB"))
    return pixels[..., None] if pixels.ndim == 2 else pixels


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The image in the file; only its header is read until its pixels are needed."""
    try:
        with Image.open(path) as image:
            yield image
    except IMAGE_ERRORS as error:
        problem = f"{path} cannot be read as an image; remove it"
        raise InputError(problem, field="data_dir") from error
