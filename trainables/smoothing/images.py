"""Images as their users have them, as the tensors that are certified.

Images of 8 bits, which are PIL images and arrays of uint8, are brought into the form of the run's
images, unless they have the certified size already. Floats are taken as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trainables.data.form import ImageForm
from trainables.smoothing.export import ExportConfig
from trainables.smoothing.quantised import on_grid

if TYPE_CHECKING:
    from PIL import Image

    Array = np.ndarray[Any, np.dtype[Any]]
    OneImage = Tensor | Array | Image.Image
    Images = OneImage | Sequence[OneImage]

_KINDS = "a tensor or array of floats in [0, 1], an array of uint8, or a PIL image"


class Batch(NamedTuple):
    """Images float32 [n, C, H, W] in [0, 1], and whether they were passed as a `single` one."""

    images: Tensor
    single: bool


def as_batch(given: Images, config: ExportConfig) -> Batch:
    """The images that were passed, as `config` says that they are certified.

    One image is a tensor or array of floats [C, H, W], an array of uint8 [H, W] or [H, W, C], or a
    PIL image. Several are a list of these, or a tensor or array with one dimension more in front.

    Raises:
        TypeError: for anything else.
        ValueError: for an image of a different shape, with pixels outside [0, 1] or off the grid of
            quantised noise, or that is damaged.
    """
    if isinstance(given, list | tuple):
        images = [_named(f"image {i}", one, config) for i, one in enumerate(given)]
        size = (0, *config.image_shape)
        return Batch(torch.stack(images) if images else torch.empty(size), single=False)
    if isinstance(given, Tensor | np.ndarray) and given.ndim == 4:
        if not _is_floats(given):
            return as_batch(list(given), config)
        # All at once.
        return Batch(_checked(_tensor(given), "an image", config), single=False)
    return Batch(_named("the image", given, config)[None], single=True)


def _named(name: str, given: object, config: ExportConfig) -> Tensor:
    """One image [C, H, W]; errors call it `name`."""
    if isinstance(given, Tensor | np.ndarray) and _is_floats(given):
        return _checked(_tensor(given)[None], name, config)[0]
    # It takes a tenth of a second.
    from PIL import Image

    try:
        if isinstance(given, np.ndarray) and given.dtype == np.uint8:
            return _checked(_formed(_picture(given), config)[None], name, config)[0]
        if isinstance(given, Image.Image):
            return _checked(_formed(given, config)[None], name, config)[0]
    except _Problem as problem:
        raise ValueError(f"{name} {problem}") from problem
    kind = getattr(given, "dtype", type(given).__name__)
    advice = "; divide 8-bit pixels by 255" if isinstance(given, Tensor) else ""
    raise TypeError(f"{name} is {kind}, not {_KINDS}{advice}")


class _Problem(Exception):
    """What is wrong with an image, without its name."""


def _is_floats(given: Tensor | Array) -> bool:
    if isinstance(given, Tensor):
        return given.is_floating_point()
    return bool(np.issubdtype(given.dtype, np.floating))


def _tensor(given: Tensor | Array) -> Tensor:
    if isinstance(given, Tensor):
        return given.detach().float()
    # Copied, as an array may be one that tensors cannot share: read-only, or from right to left.
    return torch.from_numpy(given.astype(np.float32))


def _picture(pixels: Array) -> Image.Image:
    """An array of uint8 as an image."""
    from PIL import Image

    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    if not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)) or 0 in pixels.shape:
        raise _Problem(
            f"has the shape {pixels.shape}; an array of uint8 is [H, W] if it is grey, or "
            "[H, W, 3] in RGB"
        )
    return Image.fromarray(pixels)


def _formed(image: Image.Image, config: ExportConfig) -> Tensor:
    """The pixels of an image in the form of the run's images: float32 [C, H, W] in [0, 1]."""
    from trainables.data.image_files import pixels_of

    channels, height, width = config.image_shape
    form = config.image_form
    if image.size == (width, height):
        # It has been resized already.
        form = ImageForm(channels=form.channels)
    try:
        pixels = pixels_of(image, form)
    except ValueError as error:
        raise _Problem(str(error)) from error
    if pixels.shape[2] != channels:
        found, wanted, mode = ("grey", "RGB", "RGB") if channels == 3 else ("RGB", "grey", "L")
        raise _Problem(f"is {found}, but {wanted} images are certified; convert it to {mode}")
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255


def _checked(images: Tensor, name: str, config: ExportConfig) -> Tensor:
    """Images [n, C, H, W], if they are what is certified."""
    shape = tuple(images.shape[1:])
    if shape != config.image_shape:
        resized = "; 8-bit images are resized" if config.image_form.image_size else ""
        raise ValueError(
            f"{name} has shape {shape}, but {config.image_shape} is certified{resized}"
        )
    if not images.isfinite().all():
        raise ValueError(f"{name} has pixels that are NaN or infinite")
    if len(images) and not (images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"{name} has pixels outside [0, 1]; divide 8-bit pixels by 255")
    steps = config.pixel_steps
    if steps and not on_grid(images, steps):
        raise ValueError(
            f"{name} has pixels that are not multiples of 1/{steps}; with its quantised noise, "
            "this classifier is certified only for those; round them"
        )
    return images
