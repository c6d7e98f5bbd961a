"""Image files of foreign origin: what their headers say, and their pixels."""

from __future__ import annotations

import os
import re
import stat
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageFile

from trainables.data.form import MOST_PIXELS, ImageForm, Shape
from trainables.data.forming import pixels_in_form
from trainables.errors import InputError, describe_error

# Those of torchvision's ImageFolder, GIF, and the other names of PGM and PPM.
IMAGE_SUFFIXES = {
    *(".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"),
    ".webp",
}
# No other decoder runs, whatever a file holds: the one for EPS would start Ghostscript.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
# Enough for `MOST_PIXELS` of three bytes. WebP files are read whole when they are opened.
MOST_BYTES = 2**28
GREY_MODES = {"1", "L", "LA"}
# The colour modes, and what is said about those that are not RGB already.
COLOUR_MODES = {
    "RGB": None,
    "RGBA": None,
    "RGBX": None,
    "P": "converted {n} image{s} with a palette to RGB",
    "PA": "converted {n} image{s} with a palette to RGB",
    "CMYK": "converted {n} CMYK image{s} to RGB",
    "YCbCr": "converted {n} YCbCr image{s} to RGB",
}
# Pillow names the layout of samples of 16 bits like this; a BMP's 16 bits a pixel are BGR;16.
SIXTEEN_BITS = re.compile(r";16[BLN]")
# What turns an image upright, by its EXIF orientation. Pillow's `exif_transpose` also writes the
# other EXIF data again, which fails where they are damaged.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = {5, 6, 7, 8}
# Where Pillow keeps what may hold an orientation.
ORIENTED_BY = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}
TURNED = "turned {n} image{s} upright, by EXIF orientation"
# What such pixels look like depends on a background that is not known.
TRANSPARENT = (
    "has transparent pixels; save it without an alpha channel, on the background that the "
    "classifier was trained with"
)
FIRST_ONLY = "used only the first of several images in {n} file{s}"
KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a named pipe",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


class Header(NamedTuple):
    """The shape of an image, upright, and kinds of `Notes` about what loading it changes."""

    shape: Shape
    notes: list[str]


def read_header(path: Path) -> Header:
    """What can be known of an image without decoding its pixels.

    Raises:
        InputError: when it is not an image file, has pixels of more than 8 bits or is too large.
    """
    with _opened(path) as image:
        if _more_than_8_bits(image):
            raise InputError(
                f"{path} has pixels of more than 8 bits; save it with 8 bits", field="data_dir"
            )
        if image.mode not in GREY_MODES and image.mode not in COLOUR_MODES:
            raise InputError(
                f"{path} has the colour mode {image.mode}; save it as RGB or grey",
                field="data_dir",
            )
        width, height = image.size
        notes = [COLOUR_MODES.get(image.mode)]
        turn = _orientation(image)
        if turn in TURNS:
            notes.append(TURNED)
        # Pillow turns TIFF images by itself, and has done so with the size.
        if turn in SIDEWAYS and image.format != "TIFF":
            width, height = height, width
        with _decoding(path):
            several = getattr(image, "is_animated", False)
        if several:
            notes.append(FIRST_ONLY)
        shape = Shape(width, height, 1 if image.mode in GREY_MODES else 3)
        return Header(shape, [note for note in notes if note])


def decode(path: Path, form: ImageForm) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The pixels of an image, upright and in its `form`: uint8 [height, width, channels].

    Raises:
        InputError: when the file is damaged, or the image is not opaque.
    """
    with _opened(path) as image:
        early = image.info.keys() & ORIENTED_BY
        with _decoding(path):
            image.load()
            opaque = _is_opaque(image)
            upright = image.convert("L" if image.mode in GREY_MODES else "RGB")
        late = image.info.keys() & ORIENTED_BY - early
        # None for TIFF, which Pillow has turned.
        turn = TURNS.get(_orientation(image) or 1)
    if turn is not None and late:
        # The header was read without it.
        raise InputError(
            f"{path} has an EXIF orientation after its pixels; save it upright", field="data_dir"
        )
    if not opaque:
        raise InputError(f"{path} {TRANSPARENT}", field="data_dir")
    return pixels_in_form(upright if turn is None else upright.transpose(turn), form)


def pixels_of(image: Image.Image, form: ImageForm) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """As `decode`, of an image that somebody else has opened or made.

    Raises:
        ValueError: when it is damaged or not opaque, has pixels of more than 8 bits or a colour
            mode other than those of files, or would take too much memory; without a subject.
    """
    if _more_than_8_bits(image):
        raise ValueError("has pixels of more than 8 bits; convert it to 8 bits")
    if image.mode not in GREY_MODES and image.mode not in COLOUR_MODES:
        raise ValueError(f"has the colour mode {image.mode}; convert it to RGB or L")
    form.shape(Shape(*image.size, 1 if image.mode in GREY_MODES else 3))
    try:
        image.load()
        opaque = _is_opaque(image)
        upright = image.convert("L" if image.mode in GREY_MODES else "RGB")
    except Exception as error:  # decoders raise almost anything for damaged files
        raise ValueError(f"cannot be decoded ({describe_error(error)})") from error
    if not opaque:
        raise ValueError(TRANSPARENT)
    turn = TURNS.get(_orientation(image) or 1)
    return pixels_in_form(upright if turn is None else upright.transpose(turn), form)


def _is_opaque(image: Image.Image) -> bool:
    if not image.has_transparency_data:
        return True
    alpha = image.convert("RGBA").getchannel("A")
    return alpha.getextrema() == (255, 255)


def _more_than_8_bits(image: Image.Image) -> bool:
    """Whether a conversion to 8 bits would lose something."""
    # Empty if it was loaded already; not there if it never was in a file.
    tile = getattr(image, "tile", [])
    if image.mode.startswith(("I", "F")) or SIXTEEN_BITS.search(str(tile)):
        return True
    # The decoder of PPM gets the largest value of a sample, if that is not 255.
    arguments = tile[0].args if image.format == "PPM" and tile else None
    return isinstance(arguments, tuple) and any(
        isinstance(argument, int) and argument > 255 for argument in arguments
    )


def _orientation(image: Image.Image) -> int | None:
    """The EXIF orientation, or None; a damaged one counts as none."""
    try:
        # Not that of PNG, which would decode the pixels, as EXIF data may follow them.
        found = Image.Image.getexif(image).get(ExifTags.Base.Orientation)
    except Exception:  # foreign data can raise anything
        return None
    return found if isinstance(found, int) else None


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """The image in the file; only its header is read until its pixels are needed."""
    _check_file(path)
    with warnings.catch_warnings(), ExitStack() as stack:
        warnings.simplefilter("ignore")
        with _decoding(path):
            image = stack.enter_context(Image.open(path, formats=FORMATS))
        if image.width * image.height > MOST_PIXELS:
            raise InputError(
                f"{path} has {image.width} x {image.height} pixels, more than the "
                f"{MOST_PIXELS:,} that are accepted; make it smaller, or remove it",
                field="data_dir",
            )
        yield image


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Refuse the file if its decoder, which runs in the block, fails."""
    try:
        yield
    except Exception as error:  # decoders raise almost anything for damaged files
        problem = f"{path} cannot be read as an image; remove it"
        raise InputError(problem, field="data_dir") from error


def _check_file(path: Path) -> None:
    """Refuse, without opening it, what is not a file: reading it might never end."""
    try:
        found = os.stat(path)
    except OSError as error:
        problem = f"{path} cannot be read ({error.strerror}); remove it"
        raise InputError(problem, field="data_dir") from error
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in KINDS.items() if is_kind(found.st_mode)), "special")
        raise InputError(f"{path} is {kind}, not an image file; remove it", field="data_dir")
    if found.st_size > MOST_BYTES:
        raise InputError(
            f"{path} has {found.st_size / 2**20:,.0f} MiB, too much for an image; remove it",
            field="data_dir",
        )
