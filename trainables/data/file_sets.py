"""Published data sets in image files: GTSRB, EuroSAT and Tiny ImageNet.

Their test images are not in class folders but in lists, or nobody has set any aside.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from trainables.data.class_folders import class_names
from trainables.data.fetching import READ_ERRORS, fetch
from trainables.data.folder import load_folder, load_listed
from trainables.data.form import ImageForm
from trainables.data.images import Dataset
from trainables.data.notes import Notes
from trainables.errors import InputError

# An image file, and the name of its class.
Listed = Iterator[tuple[Path, str]]


class _Set(NamedTuple):
    """Where the files are below the data folder, how they are read, and torchvision's class."""

    place: Path
    read: Callable[[Path, ImageForm], Dataset]
    loader: str | None = None
    # What torchvision calls the parts that it fetches.
    parts: tuple[dict[str, str], ...] = ({},)


def load_file_set(name: str, folder: Path, form: ImageForm, *, download: bool) -> Dataset:
    """The data set `name` from its files in `folder`, in their `form`.

    GTSRB has images of all sizes, so its form needs one. Of EuroSAT, as of an image folder, one
    image in five is for testing; of Tiny ImageNet it is those for validation. With `download`,
    files that are missing are fetched first.

    Raises:
        InputError: when files are missing or damaged, or cannot be fetched.
    """
    found = SETS[name]
    place = folder / found.place
    if not place.is_dir():
        if not download:
            raise InputError(
                f"{name} is not in {folder}; pass `download` to fetch it, or `data_dir` with the "
                f"folder that holds {found.place}",
                field="dataset",
            )
        _fetch(name, folder, form)
    try:
        return replace(found.read(place, form), name=name)
    except InputError:
        raise
    except READ_ERRORS as error:
        raise InputError(
            f"{name} in {place} is incomplete or damaged; remove that folder, and fetch it again",
            field="dataset",
        ) from error


def _fetch(name: str, folder: Path, form: ImageForm) -> None:
    found = SETS[name]
    if found.loader is None:
        raise InputError(
            f"{name} is not fetched; unpack it such that {folder} holds {found.place}",
            field="download",
        )
    loader = getattr(import_module("torchvision.datasets"), found.loader)

    def download(staging: Path) -> Dataset:
        for part in found.parts:
            loader(staging, download=True, **part)
        return found.read(staging / found.place, form)

    fetch(name, folder, [found.place], download)


def _gtsrb(place: Path, form: ImageForm) -> Dataset:
    images = place / "GTSRB" / "Final_Test" / "Images"

    def listed() -> Listed:
        with (place / "GT-final_test.csv").open(newline="") as file:
            for row in csv.DictReader(file, delimiter=";"):
                yield images / row["Filename"], f"{int(row['ClassId']):05}"

    return _listed(place / "GTSRB" / "Training", listed(), form)


def _tiny_imagenet(place: Path, form: ImageForm) -> Dataset:
    def listed() -> Listed:
        for line in (place / "val" / "val_annotations.txt").read_text().splitlines():
            file, name, *_ = line.split("\t")
            yield place / "val" / "images" / file, name

    return _listed(place / "train", listed(), form)


def _listed(training: Path, test: Listed, form: ImageForm) -> Dataset:
    """The images in class folders of `training`, and those that are listed for testing."""
    notes = Notes()
    classes = class_names(training, notes)
    labelled = [(path, classes.index(name)) for path, name in test]
    return load_listed(training, classes, labelled, form, notes)


SETS = {
    "gtsrb": _Set(Path("gtsrb"), _gtsrb, "GTSRB", ({"split": "train"}, {"split": "test"})),
    "eurosat": _Set(Path("eurosat", "2750"), load_folder, "EuroSAT"),
    "tiny_imagenet": _Set(Path("tiny-imagenet-200"), _tiny_imagenet),
}
