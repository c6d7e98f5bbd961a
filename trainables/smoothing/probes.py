"""What a classifier answers about a few fixed images, so that it can be recognised later.

A hash recognises a classifier exactly, but only one that holds its weights, by the same names. What
it computes can be compared whoever wrote it, and normalisation is then part of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from trainables.errors import InputError, describe_error

# The images, each of which is asked about twice: as it is and denoised.
PROBES = 4
QUERIES = 2 * PROBES
# How far logits may be from those expected, in units of their standard deviation. Other machines
# and numbers of threads round to about 1e-6 of it; a normalisation that is off by 1 % gives 2e-2.
TOLERANCE = 1e-4
_PATCHES = 4


class Probes(NamedTuple):
    """Images, and the logits that are expected for them as they are, and behind the denoiser.

    `images` are uint8 [n, C, H, W], both logits float32 [n, classes].
    """

    images: Tensor
    logits: Tensor
    denoised_logits: Tensor

    @property
    def pixels(self) -> Tensor:
        """The images as floats in [0, 1]."""
        return self.images.float() / 255

    @property
    def data(self) -> bytes:
        """The probes in safetensors format, as `read_probes` reads them."""
        return save_safetensors({k: v.contiguous() for k, v in self._asdict().items()})

    def check(self, denoiser: nn.Module, classifier: nn.Module) -> None:
        """Make sure that both compute what is expected; a classifier is asked `QUERIES` times.

        Raises:
            InputError: naming which does not, or when the classifier fails.
        """
        found = ask(denoiser, classifier, self.images)
        if problem := _difference(self.logits, found.logits):
            raise InputError(
                f"this is not the classifier that was certified: {problem}; pass the one that "
                "the run used, with its normalisation"
            )
        if problem := _difference(self.denoised_logits, found.denoised_logits):
            raise InputError(
                f"the denoiser computes something else here than where it was certified: {problem}"
            )


def probe_images(shape: Sequence[int]) -> Tensor:
    """The images: uint8 [PROBES, C, H, W] for the `shape` [C, H, W], the same on every machine.

    They are patches of random colours with random pixels on them, so that neither an exchange of
    channels nor of rows and columns, nor a different scale, leaves a classifier's answers as they
    are. They hold nothing of anybody's data.
    """
    channels, height, width = shape
    patches = _random("patches", PROBES, channels, _PATCHES, _PATCHES)
    rows, columns = (np.arange(size) * _PATCHES // size for size in (height, width))
    coarse = patches[:, :, rows[:, None], columns]
    pixels = _random("pixels", PROBES, channels, height, width)
    return torch.from_numpy(((3 * coarse + pixels) // 4).astype(np.uint8))


@torch.no_grad()
def ask(denoiser: nn.Module, classifier: nn.Module, images: Tensor) -> Probes:
    """The answers of `classifier` about `images`, uint8 [n, C, H, W], as they are and denoised.

    Both modules must be in evaluation mode.

    Raises:
        InputError: when the classifier fails, or does not return logits [batch, classes].
    """
    pixels = images.float() / 255
    asked = torch.cat((pixels, denoiser(pixels)))
    try:
        logits: Tensor = classifier(asked).float().cpu()
    except InputError:
        raise
    except Exception as error:  # a foreign network can raise anything
        raise InputError(
            f"the classifier fails on images of shape {tuple(images.shape[1:])}: "
            f"{describe_error(error)}"
        ) from error
    if logits.ndim != 2 or len(logits) != len(asked):
        raise InputError(
            f"for {len(asked)} images the classifier returns a tensor of shape "
            f"{tuple(logits.shape)}, not logits [batch, classes]"
        )
    return Probes(images, *logits.chunk(2))


def read_probes(data: bytes) -> Probes:
    """The probes in `data`, as `Probes.data` wrote them.

    Raises:
        ValueError: when they are anything else.
    """
    found = Probes(**load_safetensors(data))
    count, *_ = found.images.shape
    shapes = [found.logits.shape, found.denoised_logits.shape]
    if found.images.ndim != 4 or found.images.dtype != torch.uint8 or count == 0:
        raise ValueError(f"images of shape {tuple(found.images.shape)}")
    if shapes[0] != shapes[1] or len(shapes[0]) != 2 or shapes[0][0] != count:
        raise ValueError(f"logits of shapes {shapes}")
    return found


def _random(name: str, *shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint16]]:
    """Bytes as whole numbers; of a hash, because a generator's numbers may change one day."""
    digest = hashlib.shake_256(f"{name} {shape}".encode()).digest(math.prod(shape))
    return np.frombuffer(digest, np.uint8).astype(np.uint16).reshape(shape)


def _difference(expected: Tensor, found: Tensor) -> str | None:
    """What distinguishes two sets of logits, beyond rounding."""
    if expected.shape != found.shape:
        return f"it has {found.shape[1]} classes, not {expected.shape[1]}"
    finite = expected[expected.isfinite()]
    spread = float(finite.std(correction=0)) if len(finite) else 0.0
    if torch.allclose(found, expected, rtol=0, atol=TOLERANCE * spread, equal_nan=True):
        return None
    apart = float((found - expected).abs().nan_to_num(math.inf).max())
    largest = apart / spread if spread else math.inf
    return (
        f"on the probe images its logits differ by {largest:.1g} standard deviations, more than "
        f"the {TOLERANCE:g} of rounding"
    )
