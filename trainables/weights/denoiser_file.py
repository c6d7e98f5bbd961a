"""A denoiser's weights as a safetensors file that says which architecture they belong to."""

from __future__ import annotations

import errno
import json
import math
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from trainables.errors import InputError
from trainables.models.denoisers import DENOISERS, Denoiser, build_denoiser
from trainables.weights.checkpoint import PYTORCH_EPS

WEIGHTS = "denoiser.safetensors"
# What `DecropConfig` allows: a damaged header must not use up all memory or time.
LARGEST = {
    "channels": 4096,
    "width": 1024,
    "depth": 64,
    "memory_blocks": 16,
    "residual_blocks": 16,
    "levels": 6,
}
LARGEST_FILE = 2**32


def denoiser_bytes(denoiser: Denoiser, sigma: float | None = None) -> bytes:
    """The denoiser's weights, architecture and, if given, its `sigma`, in safetensors format."""
    weights = {k: v.detach().cpu().contiguous() for k, v in denoiser.state_dict().items()}
    metadata = {"denoiser": json.dumps(denoiser.spec)}
    if sigma is not None:
        metadata["sigma"] = json.dumps(sigma)
    return save_safetensors(weights, metadata)


def load_denoiser(data: bytes) -> Denoiser:
    """The denoiser in `data`, as `denoiser_bytes` wrote it, in evaluation mode.

    Raises:
        InputError: when `data` is damaged, or its weights are not those of its architecture.
    """
    try:
        weights, spec = load_safetensors(data), _spec(data)
        trained_sigma(data)
        # On the meta device: no memory or random numbers are used before the weights are checked.
        with torch.device("meta"):
            denoiser = build_denoiser(str(spec["architecture"]), int(spec["channels"]), spec)
        expected = denoiser.state_dict()
        if _shapes(weights) != _shapes(expected):
            raise ValueError("the weights belong to a different denoiser")
        # Not `to_empty`, which imports SymPy: that takes longer than everything else here.
        typed = {name: tensor.to(expected[name].dtype) for name, tensor in weights.items()}
        denoiser.load_state_dict(typed, assign=True)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            "the denoiser's weights are damaged, or were not written by this project"
        ) from error
    return denoiser.eval()


def trained_sigma(data: bytes) -> float | None:
    """The sigma for which the denoiser in `data` was trained; None if the file does not say.

    Raises:
        ValueError: when it is not a standard deviation.
    """
    text = metadata_of(data).get("sigma")
    sigma = None if text is None else float(text)
    if sigma is not None and not 0 < sigma < math.inf:
        raise ValueError(f"sigma is {sigma}")
    return sigma


def read_bytes(path: Path) -> bytes:
    """The content of a file of at most `LARGEST_FILE` bytes.

    Raises:
        OSError: when there is none, or it is larger, or a device or a pipe, which may never end.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if found.st_size > LARGEST_FILE:
        raise OSError(errno.EFBIG, f"it has {found.st_size:,} bytes")
    return path.read_bytes()


def read_denoiser(path: Path, field: str = "init_denoiser") -> bytes:
    """The bytes of the denoiser at `path`: a file, or a folder with an exported classifier.

    Errors name the `field`.

    Raises:
        InputError: when there is none, or it cannot be loaded.
    """
    file = path / WEIGHTS if path.is_dir() else path
    try:
        data = read_bytes(file)
        load_denoiser(data)
    except OSError as error:
        raise InputError(
            f"{file} cannot be read ({error.strerror}); pass a .safetensors file or an exported "
            "smoothed_classifier folder",
            field=field,
        ) from error
    except InputError as error:
        raise InputError(f"{file}: {error}", field=field) from error
    return data


def _spec(data: bytes) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(metadata_of(data)["denoiser"])
    for name in ("channels", *DENOISERS[str(spec["architecture"])].sizes):
        size = spec[name]
        if not (isinstance(size, int) and 1 <= size <= LARGEST[name]):
            raise ValueError(f"{name} is {size}")
    # Files from before it could vary do not name it.
    eps = spec.setdefault("norm_eps", PYTORCH_EPS)
    if not (isinstance(eps, float) and 0 < eps <= 1):
        raise ValueError(f"norm_eps is {eps}")
    return spec


def metadata_of(data: bytes) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        KeyError, ValueError: when it has none, or is damaged.
    """
    # The header of the format: its length in 8 little-endian bytes, then JSON.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata


def _shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in weights.items()}
