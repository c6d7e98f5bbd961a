"""The data sets a run can use, as labelled images in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from trainables.cache import cache_folder
from trainables.choices import DATASETS, FILE_SETS, MEDMNIST, PUBLISHED_DATASETS
from trainables.data.class_order import in_order
from trainables.data.file_sets import load_file_set
from trainables.data.folder import load_folder
from trainables.data.form import UNCHANGED, ImageForm
from trainables.data.images import Dataset, FormedImages, Images, TensorImages
from trainables.data.medmnist import load_medmnist
from trainables.data.torchvision_sets import load_torchvision_set
from trainables.errors import InputError

__all__ = ["DATASETS", "Dataset", "Images", "TensorImages", "load_dataset"]

# The split of digits is part of the data set: the cached classifier is trained on one side of it.
DIGITS_TEST_IMAGES = 500
DIGITS_PIXEL_STEPS = 16


def load_dataset(
    name: str,
    data_dir: Path | None = None,
    *,
    download: bool = False,
    form: ImageForm = UNCHANGED,
    class_order: Sequence[str] | None = None,
) -> Dataset:
    """The data set called `name`, its images in their `form`, its classes in `class_order`.

    `data_dir` is the image folder of `folder`, or where the files of a published data set are, or
    are downloaded to: by default the folder `data` of the cache. Nothing is fetched without
    `download`; `digits` and `folder` never need it.

    Raises:
        InputError: for an unknown name, and for data that is missing, is damaged, cannot be
            fetched or has mixed shapes, or other classes than `class_order`.
    """
    dataset = _load(name, data_dir, download, form)
    return dataset if class_order is None else in_order(dataset, class_order)


def _load(name: str, data_dir: Path | None, download: bool, form: ImageForm) -> Dataset:
    if name == "digits":
        return _formed(_digits(), form)
    if name == "folder":
        if data_dir is None:
            raise InputError(
                "the data set 'folder' needs it; name the image folder", field="data_dir"
            )
        return load_folder(data_dir, form)
    folder = cache_folder() / "data" if data_dir is None else data_dir
    if name in FILE_SETS:
        return load_file_set(name, folder, form, download=download)
    if name in PUBLISHED_DATASETS:
        return _formed(load_torchvision_set(name, folder, download=download), form)
    if name in MEDMNIST:
        return _formed(load_medmnist(name, folder, download=download), form)
    raise InputError(f"{name!r} is unknown; choose one of {', '.join(DATASETS)}", field="dataset")


def _formed(dataset: Dataset, form: ImageForm) -> Dataset:
    if not form.changes_images:
        return dataset
    train, test = FormedImages(dataset.train, form), FormedImages(dataset.test, form)
    return replace(dataset, train=train, test=test, pixel_steps=255)


def _digits() -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, target = load_digits(return_X_y=True)
    images = torch.from_numpy(pixels).float().div(DIGITS_PIXEL_STEPS).view(-1, 1, 8, 8)
    labels = torch.from_numpy(target).long()
    train, test = train_test_split(
        np.arange(len(labels)), test_size=DIGITS_TEST_IMAGES, random_state=0, stratify=target
    )
    return Dataset(
        name="digits",
        classes=tuple("0123456789"),
        train=TensorImages(images[train], labels[train]),
        test=TensorImages(images[test], labels[test]),
        pixel_steps=DIGITS_PIXEL_STEPS,
    )
