"""The published data sets that torchvision can fetch and read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from trainables.data.fetching import READ_ERRORS, fetch
from trainables.data.images import Dataset, TensorImages
from trainables.errors import InputError


class _Set(NamedTuple):
    """A class of torchvision, the shape of its images, and what it calls a side and the labels."""

    loader: str
    shape: tuple[int, int, int] = (3, 32, 32)
    sides: tuple[Mapping[str, object], Mapping[str, object]] = ({"train": True}, {"train": False})
    labels: str = "targets"


_BY_SPLIT = ({"split": "train"}, {"split": "test"})
SETS = {
    "mnist": _Set("MNIST", (1, 28, 28)),
    "fashion_mnist": _Set("FashionMNIST", (1, 28, 28)),
    "cifar10": _Set("CIFAR10"),
    "cifar100": _Set("CIFAR100"),
    "svhn": _Set("SVHN", sides=_BY_SPLIT, labels="labels"),
    "stl10": _Set("STL10", (3, 96, 96), _BY_SPLIT, "labels"),
}
# Names that are not in files with a checksum.
CLASSES = {
    "svhn": "0123456789",
    "stl10": (
        *("airplane", "bird", "car", "cat", "deer"),
        *("dog", "horse", "monkey", "ship", "truck"),
    ),
}


def load_torchvision_set(name: str, folder: Path, *, download: bool) -> Dataset:
    """The data set `name` from its files in `folder`; its images are kept as uint8.

    MNIST and Fashion-MNIST are [n, 1, 28, 28], STL-10 is [n, 3, 96, 96], the others are
    [n, 3, 32, 32]. With `download`, files
    that are missing or damaged are fetched first.

    Raises:
        InputError: when the files are missing or damaged, or cannot be fetched.
    """
    loader = _loader(name)
    files = _files(loader)
    missing = [file for file in files if not os.path.isfile(folder / file)]
    if len(missing) == len(files):
        problem = f"{name} is not in {folder}"
    elif missing:
        problem = f"{name} in {folder} lacks the file {missing[0]}"
    else:
        try:
            return _read(name, loader, folder)
        except READ_ERRORS:
            problem = f"{name} in {folder} is damaged or cannot be read"
    if download:
        return fetch(name, folder, files, partial(_read, name, loader, download=True))
    raise InputError(
        f"{problem}; pass `download` to fetch it, or `data_dir` with the folder that holds "
        f"{files[0]}",
        field="dataset",
    )


def _loader(name: str) -> Any:
    # Imported here, because it takes seconds.
    loader = getattr(import_module("torchvision.datasets"), SETS[name].loader)
    if name != "stl10":
        return loader
    # Without the 100 000 images that have no labels: they need not be kept or checked.
    return type(loader.__name__, (loader,), {"train_list": loader.train_list[:2]})


def _files(loader: Any) -> list[Path]:
    """The files that the torchvision class `loader` reads, relative to the data folder."""
    if hasattr(loader, "resources"):
        return [Path(loader.__name__, "raw", Path(file).stem) for file, _ in loader.resources]
    if hasattr(loader, "split_list"):
        return [Path(loader.split_list[side][1]) for side in ("train", "test")]
    names = [file for file, _ in loader.train_list + loader.test_list]
    names += [loader.meta["filename"]] if hasattr(loader, "meta") else []
    return [Path(loader.base_folder, name) for name in names]


def _read(name: str, loader: Any, folder: Path, *, download: bool = False) -> Dataset:
    parts = [loader(folder, download=download, **side) for side in SETS[name].sides]
    classes = tuple(CLASSES[name] if name in CLASSES else parts[0].classes)
    train, test = (_images(name, part, len(classes)) for part in parts)
    return Dataset(name, classes, train, test)


def _images(name: str, part: Any, classes: int) -> TensorImages:
    """The images and labels of one side, checked: unpacked files of MNIST have no checksums.

    Raises:
        ValueError: when they are not what the data set should hold.
    """
    images, shape = torch.as_tensor(part.data), SETS[name].shape
    labels = torch.as_tensor(getattr(part, SETS[name].labels)).long()
    if shape[0] == 1:
        images = images.unsqueeze(1)
    elif images.shape[-1] == shape[0]:
        images = images.permute(0, 3, 1, 2)
    if images.shape != (len(labels), *shape) or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{name} has images {tuple(images.shape)}, labels to {labels.max()}")
    return TensorImages(images, labels)
