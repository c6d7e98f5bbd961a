"""The data sets of MedMNIST v2, from the files in which they are published.

Source: Yang et al., "MedMNIST v2", Scientific Data 2023. ChestMNIST, whose images have several
labels each, and the sets of volumes are not among them.
"""

from __future__ import annotations

import zipfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from trainables.data.fetching import READ_ERRORS, fetch
from trainables.data.images import Dataset, TensorImages
from trainables.errors import InputError

URL = "https://zenodo.org/records/10519652/files/{name}.npz?download=1"
# The largest set at 28 x 28 takes a quarter of a gigabyte.
MOST_BYTES = 2**33


class _Set(NamedTuple):
    """The checksum of the published file, and the names of the classes."""

    md5: str
    classes: tuple[str, ...]


_ORGANS = (
    *("bladder", "femur-left", "femur-right", "heart", "kidney-left", "kidney-right"),
    *("liver", "lung-left", "lung-right", "pancreas", "spleen"),
)
SETS = {
    "pathmnist": _Set(
        "a8b06965200029087d5bd730944a56c1",
        (
            *("adipose", "background", "debris", "lymphocytes", "mucus", "smooth muscle"),
            *("normal colon mucosa", "cancer-associated stroma"),
            "colorectal adenocarcinoma epithelium",
        ),
    ),
    "dermamnist": _Set(
        "0744692d530f8e62ec473284d019b0c7",
        (
            *("actinic keratoses and intraepithelial carcinoma", "basal cell carcinoma"),
            *("benign keratosis-like lesions", "dermatofibroma", "melanoma", "melanocytic nevi"),
            "vascular lesions",
        ),
    ),
    "octmnist": _Set(
        "c68d92d5b585d8d81f7112f81e2d0842",
        ("choroidal neovascularization", "diabetic macular edema", "drusen", "normal"),
    ),
    "pneumoniamnist": _Set("28209eda62fecd6e6a2d98b1501bb15f", ("normal", "pneumonia")),
    "retinamnist": _Set("bd4c0672f1bba3e3a89f0e4e876791e4", tuple("01234")),
    "breastmnist": _Set("750601b1f35ba3300ea97c75c52ff8f6", ("malignant", "normal, benign")),
    "bloodmnist": _Set(
        "7053d0359d879ad8a5505303e11de1dc",
        (
            *("basophil", "eosinophil", "erythroblast", "immature granulocytes", "lymphocyte"),
            *("monocyte", "neutrophil", "platelet"),
        ),
    ),
    "tissuemnist": _Set(
        "ebe78ee8b05294063de985d821c1c34b",
        (
            *("collecting duct, connecting tubule", "distal convoluted tubule"),
            *("glomerular endothelial cells", "interstitial endothelial cells", "leukocytes"),
            *("podocytes", "proximal tubule segments", "thick ascending limb"),
        ),
    ),
    "organamnist": _Set("68e3f8846a6bd62f0c9bf841c0d9eacc", _ORGANS),
    "organcmnist": _Set("b9ceb9546e10131b32923c5bbeaea2b1", _ORGANS),
    "organsmnist": _Set("9ab87b696fb54e2a387ebe992d6ed5f1", _ORGANS),
}


def load_medmnist(name: str, folder: Path, *, download: bool) -> Dataset:
    """The data set `name` from NAME.npz in `folder`, which may be of any of the published sizes.

    Images are [n, 1, S, S] or [n, 3, S, S], and kept as uint8; those for validation are left out.
    With `download`, a file that is missing is fetched first, at 28 x 28.

    Raises:
        InputError: when the file is missing or damaged, or cannot be fetched.
    """
    file = Path(f"{name}.npz")
    path = folder / file
    if path.is_file():
        try:
            return _read(name, path)
        except InputError:
            raise
        except (*READ_ERRORS, MemoryError, zipfile.BadZipFile) as error:
            problem = f"{path} is damaged, or is not of {name}"
            raise InputError(f"{problem}; fetch it again", field="dataset") from error
    if download:
        return fetch(name, folder, [file], partial(_download, name))
    raise InputError(
        f"{name} is not in {folder}; pass `download` to fetch it, or `data_dir` with the folder "
        f"that holds {file}",
        field="dataset",
    )


def _download(name: str, folder: Path) -> Dataset:
    # Imported here, because it takes seconds.
    from torchvision.datasets.utils import download_url

    download_url(URL.format(name=name), folder, f"{name}.npz", SETS[name].md5)
    return _read(name, folder / f"{name}.npz")


def _read(name: str, path: Path) -> Dataset:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MOST_BYTES:
        raise InputError(
            f"{path} holds {size / 1e9:.0f} GB, which are more than fit into memory; take a "
            "smaller size of the images",
            field="dataset",
        )
    classes = SETS[name].classes
    with np.load(path, allow_pickle=False) as arrays:
        train, test = (
            _images(arrays[f"{side}_images"], arrays[f"{side}_labels"], len(classes))
            for side in ("train", "test")
        )
        left_out = len(arrays["val_labels"]) if "val_labels" in arrays else 0
    notes = (f"left out {left_out} images for validation",) if left_out else ()
    return Dataset(name, classes, train, test, notes=notes)


def _images(
    pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    labels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]],
    classes: int,
) -> TensorImages:
    """One side, checked.

    Raises:
        ValueError: when it is not what the data set should hold.
    """
    shaped = pixels[..., None] if pixels.ndim == 3 else pixels
    if shaped.dtype != np.uint8 or shaped.ndim != 4 or shaped.shape[-1] not in (1, 3):
        raise ValueError(f"images are {pixels.dtype} {pixels.shape}")
    if labels.shape != (len(shaped), 1) or labels.dtype.kind not in "iu":
        raise ValueError(f"labels are {labels.dtype} {labels.shape}")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels are not from 0 to {classes - 1}")
    images = torch.from_numpy(np.ascontiguousarray(shaped.transpose(0, 3, 1, 2)))
    return TensorImages(images, torch.from_numpy(labels[:, 0].astype(np.int64)))
