"""Example images of a setting: clean, with noise, and denoised by each variant, as small pictures.

examples.npz holds `indices` (int64 [images], positions in the test set), `clean`, and for each
variant `noisy_VARIANT` and `denoised_VARIANT`, all uint8 [images, channels, height, width]; the
classifier without a denoiser has no denoised ones.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from results import files
from results.store import StoreError, write_bytes

Pixels = NDArray[np.uint8]

# What is read back at most, unpacked.
_MAX_BYTES = 64 * 2**20
_PREFIXES = ("noisy", "denoised")


@dataclass(frozen=True)
class Examples:
    """Pictures of a few test images; `noisy` and `denoised` are by variant.

    All pixels are uint8 [images, channels, height, width] with one or three channels, in the order
    of `indices`, the positions of the images in the test set.
    """

    indices: tuple[int, ...]
    clean: Pixels
    noisy: Mapping[str, Pixels]
    denoised: Mapping[str, Pixels]


def write_examples(folder: Path, examples: Examples) -> None:
    """Write examples.npz to the folder of a setting, in one step.

    Raises:
        OSError: if it cannot be written.
    """
    pictures = {"noisy": examples.noisy, "denoised": examples.denoised}
    arrays: dict[str, Any] = {
        f"{kind}_{name}": p for kind, group in pictures.items() for name, p in group.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, indices=np.array(examples.indices), clean=examples.clean, **arrays
    )  # fmt: skip
    write_bytes(folder / files.EXAMPLES, buffer.getvalue())


def read_examples(folder: Path) -> Examples | None:
    """The examples in the folder of a setting; None if there are none.

    Raises:
        StoreError: if the file is damaged.
    """
    path = folder / files.EXAMPLES
    if not path.exists():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_BYTES:
                raise ValueError("is too large")
        with np.load(path, allow_pickle=False) as file:
            return _checked({name: file[name] for name in file.files})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise StoreError(f"{path}: cannot be read: {' '.join(str(error).split())}") from error


def _checked(arrays: Mapping[str, NDArray[np.generic]]) -> Examples:
    indices, clean = arrays["indices"], arrays["clean"]
    for name, array in arrays.items():
        if name == "indices":
            fits = array.ndim == 1 and np.issubdtype(array.dtype, np.integer)
        else:
            fits = array.dtype == np.uint8 and array.shape == clean.shape
        if not fits:
            raise ValueError(f"{name} is {array.dtype} {list(array.shape)}")
    if clean.ndim != 4 or len(clean) != len(indices) or clean.shape[1] not in (1, 3):
        raise ValueError(f"clean is {list(clean.shape)} for {len(indices)} images")
    noisy, denoised = (
        {
            name.removeprefix(f"{kind}_"): array.astype(np.uint8)
            for name, array in arrays.items()
            if name.startswith(f"{kind}_")
        }
        for kind in _PREFIXES
    )
    return Examples(tuple(indices.tolist()), clean.astype(np.uint8), noisy, denoised)
