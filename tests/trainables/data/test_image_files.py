"""Image files of foreign origin: their shapes, colours and pixels."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.support.image_bytes import chunk, encoded, exif, png
from tests.support.image_folders import picture
from tests.support.refusal import refusal
from trainables.data.form import UNCHANGED, Shape
from trainables.data.image_files import decode, read_header


def palette_png(transparent: int) -> bytes:
    image = Image.new("P", (7, 5), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encoded(image, "PNG", transparency=transparent)


@pytest.mark.parametrize("orientation", [1, 2, 3, 4, 5, 6, 7, 8, 77])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    image = picture(size=(16, 8))
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "photo"
    path.write_bytes(encoded(image, kind, exif=exif(orientation), **options))
    plain = Image.open(io.BytesIO(encoded(image, kind, **options))).convert("RGB")
    plain.getexif()[0x112] = orientation
    turned = ImageOps.exif_transpose(plain)
    header = read_header(path)
    assert header.shape == Shape(*turned.size, 3)
    assert np.array_equal(decode(path, UNCHANGED), np.asarray(turned))
    told = ["turned {n} image{s} upright, by EXIF orientation"]
    assert header.notes == (told if 1 < orientation <= 8 else [])


def test_damaged_exif_data_turns_nothing(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(picture(size=(16, 8)), "JPEG", exif=b"Exif\0\0all garbage here"))
    assert read_header(path) == (Shape(16, 8, 3), [])
    assert decode(path, UNCHANGED).shape == (8, 16, 3)


def test_an_orientation_after_the_pixels_is_refused(tmp_path: Path) -> None:
    # A header does not tell it, and the image would get a different shape from the others.
    late = chunk(b"eXIf", exif(6).tobytes().removeprefix(b"Exif\0\0"))
    data = encoded(picture(), "PNG")
    path = tmp_path / "photo.png"
    path.write_bytes(data[:-12] + late + data[-12:])
    assert "EXIF orientation after its pixels" in refusal(lambda: decode(path, UNCHANGED))


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (encoded(picture("P"), "PNG"), "converted {n} image{s} with a palette to RGB"),
        (encoded(picture("P"), "GIF"), "converted {n} image{s} with a palette to RGB"),
        (encoded(picture("CMYK"), "JPEG", progressive=True), "converted {n} CMYK image{s} to RGB"),
        (encoded(picture("CMYK"), "TIFF"), "converted {n} CMYK image{s} to RGB"),
        (encoded(picture("YCbCr"), "TIFF"), "converted {n} YCbCr image{s} to RGB"),
    ],
)
def test_other_colour_modes_become_rgb_which_is_told(
    tmp_path: Path, data: bytes, note: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    assert read_header(path) == (Shape(7, 5, 3), [note])
    expected = np.asarray(Image.open(path).convert("RGB"))
    assert np.array_equal(decode(path, UNCHANGED), expected)


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_images_in_a_file_the_first_is_used_which_is_told(
    tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "image"
    more = {"save_all": True, "append_images": [picture(seed=1), picture(seed=2)]}
    path.write_bytes(encoded(picture(), kind, **more))
    told = "used only the first of several images in {n} file{s}"
    assert told in read_header(path).notes
    first = Image.open(path).convert("RGB")
    assert np.array_equal(decode(path, UNCHANGED), np.asarray(first))


@pytest.mark.parametrize(
    "data",
    [
        b"P6 7 5 255\n" + bytes(range(105)),
        b"P6 7 5 100\n" + bytes(100 - i // 2 for i in range(105)),
        b"P5 7 5 255\n" + bytes(range(35)),
        b"P4 7 5\n" + bytes(5),
        b"P3 7 5 255\n" + b"7 " * 105,
        encoded(picture("1"), "PNG"),
        encoded(picture("RGB"), "BMP"),
    ],
)
def test_8_bits_and_less_are_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    channels = read_header(path).shape.channels
    expected = np.asarray(Image.open(path).convert("L" if channels == 1 else "RGB"))
    assert np.array_equal(decode(path, UNCHANGED).squeeze(), expected)


@pytest.mark.parametrize(
    "data",
    [
        encoded(Image.fromarray(np.zeros((5, 7), np.uint16)), "PNG"),
        encoded(Image.fromarray(np.zeros((5, 7), np.uint16)), "TIFF"),
        encoded(Image.fromarray(np.zeros((5, 7), np.float32)), "TIFF"),
        png((7, 5), 16, 2, bytes(43 * 5)),
        png((7, 5), 16, 6, bytes(57 * 5)),
        png((7, 5), 16, 4, bytes(29 * 5)),
        b"P6 7 5 65535\n" + bytes(210),
        b"P6 7 5 1000\n" + bytes(210),
        b"P5 7 5 65535\n" + bytes(70),
        b"P3 7 5 1000\n" + b"7 " * 105,
        b"Pf 7 5 1.0\n" + bytes(140),
    ],
)
def test_more_than_8_bits_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image"
    path.write_bytes(data)
    message = refusal(lambda: read_header(path))
    assert message.endswith("has pixels of more than 8 bits; save it with 8 bits")


def test_colours_that_are_not_rgb_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "image"
    path.write_bytes(encoded(Image.new("LAB", (7, 5)), "TIFF"))
    assert "has the colour mode LAB; save it as RGB" in refusal(lambda: read_header(path))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_must_be_opaque(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "image.png"
    image = picture(mode)
    image.save(path)
    opaque = decode(path, UNCHANGED).squeeze()
    assert np.array_equal(opaque, np.asarray(image.convert(mode.removesuffix("A"))))
    alpha = Image.new("L", image.size, 255)
    alpha.putpixel((6, 4), 254)
    image.putalpha(alpha)
    image.save(path)
    message = refusal(lambda: decode(path, UNCHANGED))
    assert "has transparent pixels; save it without an alpha channel" in message


@pytest.mark.parametrize(
    ("data", "opaque"),
    [
        (palette_png(0), True),
        (palette_png(1), False),
        (encoded(Image.new("RGB", (7, 5), (1, 2, 3)), "PNG", transparency=(9, 9, 9)), True),
        (encoded(Image.new("RGB", (7, 5), (1, 2, 3)), "PNG", transparency=(1, 2, 3)), False),
        (encoded(Image.new("L", (7, 5), 7), "PNG", transparency=8), True),
        (encoded(Image.new("L", (7, 5), 7), "PNG", transparency=7), False),
    ],
)
def test_a_transparent_colour_must_not_occur(tmp_path: Path, data: bytes, opaque: bool) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(data)
    if opaque:
        assert decode(path, UNCHANGED).shape[:2] == (5, 7)
    else:
        assert "transparent pixels" in refusal(lambda: decode(path, UNCHANGED))
