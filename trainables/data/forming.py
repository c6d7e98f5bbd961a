"""Images brought into their form."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from trainables.data.form import ImageForm


def pixels_in_form(image: Image.Image, form: ImageForm) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels of an image of mode L or RGB in its `form`: uint8 [height, width, channels]."""
    if form.channels is not None:
        image = image.convert("L" if form.channels == 1 else "RGB")
    if form.image_size is not None:
        image = _resized(image, form, form.image_size)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _resized(image: Image.Image, form: ImageForm, size: int) -> Image.Image:
    resampling = Image.Resampling[form.resize_filter.upper()]
    whole = image.resize(form.before_crop(*image.size), resampling)
    # Rounded like torchvision's CenterCrop, half to even.
    left, top = (round((side - size) / 2) for side in whole.size)
    return whole.crop((left, top, left + size, top + size))
