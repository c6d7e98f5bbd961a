"""The published data sets that torchvision can fetch and read."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from trainables.data.images import Dataset, TensorImages
from trainables.errors import InputError

TORCHVISION_CLASSES = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
}
# Seconds after which to give up on a server that sends nothing; torchvision sets no limit.
SILENCE = 60.0
# What torchvision's readers raise for files that are damaged or not what their names say.
READ_ERRORS = (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def load_torchvision_set(name: str, folder: Path, *, download: bool) -> Dataset:
    """The data set `name` from its files in `folder`; its images are kept as uint8.

    MNIST and Fashion-MNIST are [n, 1, 28, 28], the others [n, 3, 32, 32]. With `download`, files
    that are missing or damaged are fetched first.

    Raises:
        InputError: when the files are missing or damaged, or cannot be fetched.
    """
    # Imported here, because it takes seconds.
    loader = getattr(import_module("torchvision.datasets"), TORCHVISION_CLASSES[name])
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
        return _fetch(name, loader, folder, files)
    raise InputError(
        f"{problem}; pass `download` to fetch it, or `data_dir` with the folder that holds "
        f"{files[0]}",
        field="dataset",
    )


def _files(loader: Any) -> list[Path]:
    """The files that the torchvision class `loader` reads, relative to the data folder."""
    if hasattr(loader, "resources"):
        return [Path(loader.__name__, "raw", Path(file).stem) for file, _ in loader.resources]
    if hasattr(loader, "split_list"):
        return [Path(loader.split_list[side][1]) for side in ("train", "test")]
    names = [file for file, _ in loader.train_list + loader.test_list]
    return [Path(loader.base_folder, file) for file in (*names, loader.meta["filename"])]


def _read(name: str, loader: Any, folder: Path, *, download: bool = False) -> Dataset:
    if name == "svhn":
        parts = [loader(folder, split=side, download=download) for side in ("train", "test")]
        classes = tuple("0123456789")
    else:
        parts = [loader(folder, train=side, download=download) for side in (True, False)]
        classes = tuple(parts[0].classes)
    train, test = (_images(name, part, len(classes)) for part in parts)
    return Dataset(name, classes, train, test)


def _images(name: str, part: Any, classes: int) -> TensorImages:
    """The images and labels of one side, checked: unpacked files of MNIST have no checksums.

    Raises:
        ValueError: when they are not what the data set should hold.
    """
    images = torch.as_tensor(part.data)
    labels = torch.as_tensor(part.labels if name == "svhn" else part.targets)
    if name in {"mnist", "fashion_mnist"}:
        images, shape = images.unsqueeze(1), (1, 28, 28)
    else:
        images, shape = images if name == "svhn" else images.permute(0, 3, 1, 2), (3, 32, 32)
    if images.shape != (len(labels), *shape) or labels.max() >= classes:
        raise ValueError(f"{name} has images {tuple(images.shape)}, labels to {labels.max()}")
    return TensorImages(images, labels)


def _fetch(name: str, loader: Any, folder: Path, files: list[Path]) -> Dataset:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Downloaded beside the data, and moved once it has been read: otherwise an interruption
        # could leave an incomplete file, which torchvision would take for MNIST at the next start.
        with TemporaryDirectory(prefix=".download-", dir=folder) as staging, _silence_limit():
            dataset = _read(name, loader, Path(staging), download=True)
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / file, folder / file)
    except (*READ_ERRORS, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name} could not be fetched ({reason}); try again, or put "
            f"{', '.join(file.name for file in files)} into {(folder / files[0]).parent} by hand",
            field="download",
        ) from error
    return dataset


@contextmanager
def _silence_limit() -> Iterator[None]:
    """Give up on servers that fall silent within the block."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
