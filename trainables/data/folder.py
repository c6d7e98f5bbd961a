"""A user's own image folder, split into train/ and test/ or left whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trainables.data.class_folders import (
    LAYOUTS,
    Owners,
    check_same_classes,
    class_names,
    list_images,
    note_beside,
)
from trainables.data.form import ImageForm, Shape
from trainables.data.image_files import decode, read_header
from trainables.data.images import Dataset
from trainables.data.notes import Notes
from trainables.errors import InputError

# A whole folder is split in the same way for every seed of a run: a base classifier may have been
# trained on one side, and must not be certified on images it has seen.
SPLIT_SEED = 0
TEST_SHARE = 5
REPEATED = "repeated {n} grey image{s} in three channels"
MADE_GREY = "made {n} image{s} grey"


@dataclass(frozen=True)
class FolderImages:
    """Image files, decoded and brought into one form on demand, with int64 labels [images]."""

    paths: tuple[Path, ...]
    labels: Tensor
    form: ImageForm

    def load(self, indices: Sequence[int]) -> Tensor:
        """The images at `indices`: float32 [n, channels, height, width].

        Raises:
            InputError: when the pixels of a file are damaged or transparent.
        """
        pixels = torch.from_numpy(np.stack([decode(self.paths[i], self.form) for i in indices]))
        return pixels.permute(0, 3, 1, 2).float().div(255)


def load_folder(root: Path, form: ImageForm) -> Dataset:
    """The images under `root` in their `form`, the classes numbered by name.

    `root` holds train/CLASS/IMAGE and test/CLASS/IMAGE, or only CLASS/IMAGE; then one image in five
    of each class is for testing, always the same ones. A class has the images in folders below its
    own as well.

    Raises:
        InputError: for a folder with a different layout, with too few images, with files that are
            not images, or with images that differ in size or channels and stay as they are.
    """
    try:
        return _load(root, form)
    except OSError as error:
        raise InputError(
            f"{error.filename or root} cannot be read ({error.strerror}); {LAYOUTS}",
            field="data_dir",
        ) from error


def _load(root: Path, form: ImageForm) -> Dataset:
    if not root.is_dir():
        raise InputError(f"{root} is not a folder; {LAYOUTS}", field="data_dir")
    sides = [root / side for side in ("train", "test")]
    missing = [side for side in sides if not side.is_dir()]
    if missing == [root / "test"] and (root / "val").is_dir():
        raise InputError(
            f"{root} has train and val, but no test; name the folder with the images to certify "
            "test",
            field="data_dir",
        )
    if len(missing) == 1:
        raise InputError(f"{missing[0]} is not a folder; {LAYOUTS}", field="data_dir")
    notes = Notes()
    owners: Owners = {}
    if missing:
        classes = class_names(root, notes)
        whole = _list_images(root, classes, form, owners, notes)
        _check_shapes(whole.paths, form, notes)
        train, test = _split(whole, classes)
    else:
        note_beside(root, {side.name for side in sides}, notes)
        found = {side: class_names(side, notes) for side in sides}
        check_same_classes(found)
        classes = found[sides[0]]
        train, test = (_list_images(side, classes, form, owners, notes) for side in sides)
        _check_shapes(train.paths + test.paths, form, notes)
    return Dataset("folder", classes, train, test, notes=notes.lines)


def load_listed(
    training: Path,
    classes: Sequence[str],
    test: Sequence[tuple[Path, int]],
    form: ImageForm,
    notes: Notes,
) -> Dataset:
    """Training images in class folders of `training`, and `test` images with their labels.

    Raises:
        InputError: as `load_folder`.
    """
    paths, labels = zip(*test, strict=True)
    held_out = FolderImages(paths, torch.tensor(labels), form)
    train = _list_images(training, classes, form, {}, notes)
    _check_shapes(train.paths + held_out.paths, form, notes)
    return Dataset("folder", tuple(classes), train, held_out, notes=notes.lines)


def _list_images(
    folder: Path, classes: Sequence[str], form: ImageForm, owners: Owners, notes: Notes
) -> FolderImages:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = list_images(folder / name, owners, notes)
        paths += found
        labels += [label] * len(found)
    return FolderImages(tuple(paths), torch.tensor(labels), form)


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
    return FolderImages(paths, images.labels[mask], images.form)


def _check_shapes(paths: Sequence[Path], form: ImageForm, notes: Notes) -> None:
    """Make sure, from their headers, that all images have one shape in their `form`."""
    first: Shape | None = None
    for path in paths:
        header = read_header(path)
        try:
            shape = form.shape(header.shape)
        except ValueError as error:
            raise InputError(f"{path} {error}", field="data_dir") from error
        first = first or shape
        if shape != first:
            raise InputError(
                f"{path} is {shape}, but {paths[0]} is {first}; {_remedy(shape, first)}",
                field="data_dir",
            )
        for note in header.notes:
            notes.add(note)
        if form.channels not in (None, header.shape.channels):
            notes.add(REPEATED if form.channels == 3 else MADE_GREY)


def _remedy(shape: Shape, first: Shape) -> str:
    if shape.channels != first.channels:
        return (
            "pass `channels` 3, which repeats grey images in three channels, or 1, which makes "
            "colours grey"
        )
    return "pass `image_size` to resize all images to one size"
