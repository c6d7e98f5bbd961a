"""Files that people bring, or that a stranger sends, under the names of images."""

import io
import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.image_folders import picture, write_folder
from tests.support.refusal import refusal
from trainables.data.datasets import load_dataset
from trainables.data.form import UNCHANGED, Shape
from trainables.data.image_files import decode, read_header
from trainables.errors import InputError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\nshowpage\n%%EOF\n"
PNG = b"\x89PNG\r\n\x1a\n"
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(size: tuple[int, int], depth: int, colour: int, data: bytes, *more: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(data))
    return b"".join((PNG, chunk(b"IHDR", header), *more, pixels, chunk(b"IEND", b"")))


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x112] = orientation
    return found


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def patched(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


def huge_tiff() -> bytes:
    data = encoded(picture(), "TIFF")
    (start,) = struct.unpack_from("<I", data, 4)
    (entries,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * entries, 12):
        if struct.unpack_from("<H", data, entry)[0] in (256, 257):
            data = patched(data, entry + 2, struct.pack("<HII", 4, 1, 60_000))
    return data


def huge_jpeg() -> bytes:
    data = encoded(picture(size=(16, 16)), "JPEG")
    return patched(data, data.index(b"\xff\xc0") + 5, struct.pack(">HH", 60_000, 60_000))


def huge_webp() -> bytes:
    """An animation of one small frame on a canvas of 16 383 x 16 383 pixels."""
    frame = bytes(6) + (6).to_bytes(3, "little") + (4).to_bytes(3, "little") + bytes(4)
    frame += encoded(picture(), "WEBP", lossless=True)[12:]
    side = (16_382).to_bytes(3, "little")
    chunks = {b"VP8X": b"\2\0\0\0" + side * 2, b"ANIM": bytes(6), b"ANMF": frame}
    body = b"WEBP" + b"".join(k + struct.pack("<I", len(d)) + d for k, d in chunks.items())
    return b"RIFF" + struct.pack("<I", len(body)) + body


GIF_LIMITS = struct.pack("<HH", 65_535, 65_535)
HUGE = {
    "x.png": png((60_000, 60_000), 8, 2, bytes(100)),
    "y.png": png((10_000, 9_000), 8, 2, bytes(100)),
    "x.gif": b"GIF89a" + GIF_LIMITS + bytes(3) + b",\0\0\0\0" + GIF_LIMITS + b"\0\2\2L\1\0;",
    "x.ppm": b"P6 100000 100000 255\n" + bytes(100),
    "x.tif": huge_tiff(),
    "x.jpg": huge_jpeg(),
    "x.webp": huge_webp(),
    "z.png": png((7, 5), 8, 2, bytes(110), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**8)))),
}


def palette_png(transparent: int) -> bytes:
    image = Image.new("P", (7, 5), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    return encoded(image, "PNG", transparency=transparent)


@pytest.mark.parametrize("orientation", [1, *UPRIGHT, 77])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int, kind: str) -> None:
    image = picture(size=(16, 8))
    options = {"lossless": True} if kind == "WEBP" else {}
    path = tmp_path / "photo"
    path.write_bytes(encoded(image, kind, exif=exif(orientation), **options))
    plain = Image.open(io.BytesIO(encoded(image, kind, **options))).convert("RGB")
    turned = plain.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else plain
    header = read_header(path)
    assert header.shape == Shape(*turned.size, 3)
    assert np.array_equal(decode(path, UNCHANGED), np.asarray(turned))
    told = ["turned {n} image{s} upright, by EXIF orientation"]
    assert header.notes == (told if orientation in UPRIGHT else [])


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


@pytest.mark.parametrize("data", [EPS, b"%PDF-1.4\n", b"\0\0\0\x18ftypheic" + bytes(99), b"<svg/>"])
def test_only_decoders_of_the_accepted_formats_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    # Pillow starts Ghostscript for EPS, whatever the name of the file is.
    programs, ran = tmp_path / "programs", tmp_path / "ran"
    programs.mkdir()
    for name in ("gs", "gswin32c", "gswin64c"):
        (programs / name).write_text(f"#!/bin/sh\ntouch {ran}\nexit 1\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    root = write_folder(tmp_path / "images")
    path = root / "train" / "cat" / "0.png"
    path.write_bytes(data)
    message = refusal(lambda: load_dataset("folder", root))
    assert message == f"data_dir: {path} cannot be read as an image; remove it"
    assert "cannot be read as an image" in refusal(lambda: decode(path, UNCHANGED))
    assert not ran.exists()


@pytest.mark.parametrize("name", HUGE)
def test_images_that_claim_to_be_huge_are_refused_by_their_headers(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("PIL.Image.core.new", None)
    path = tmp_path / name
    path.write_bytes(HUGE[name])
    message = refusal(lambda: read_header(path))
    assert str(path) in message
    assert "cannot be read" in message or "10000 x 9000 pixels, more than" in message


def test_a_file_too_large_for_an_image_is_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pillow would read all of it into memory.
    path = tmp_path / "x.webp"
    path.write_bytes(encoded(picture(), "WEBP"))
    os.truncate(path, 50 * 2**30)
    monkeypatch.setattr(Image, "open", None)
    assert "51,200 MiB, too much for an image" in refusal(lambda: read_header(path))


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        # The whole path may be too long for a socket's name.
        before = os.getcwd()
        os.chdir(path.parent)
        server.bind(path.name)
        os.chdir(before)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def nothing(path: Path) -> None:
    path.symlink_to("nowhere")


def itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (pipe, "is a named pipe, not an image file"),
        (listener, "is a socket, not an image file"),
        (device, "is a device, not an image file"),
        (nothing, "cannot be read (No such file or directory)"),
        (itself, "cannot be read (Too many levels of symbolic links)"),
    ],
)
def test_what_is_not_a_file_is_refused_without_opening_it(
    tmp_path: Path, make: Callable[[Path], None], problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_folder(tmp_path)
    path = root / "train" / "cat" / "0.png"
    path.unlink()
    make(path)
    monkeypatch.setattr(Image, "open", None)
    assert refusal(lambda: load_dataset("folder", root)) == f"data_dir: {path} {problem}; remove it"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "PPM"])
def test_whatever_is_damaged_is_read_or_refused(tmp_path: Path, kind: str) -> None:
    data, random = encoded(picture(size=(24, 20)), kind), np.random.default_rng(0)
    path = tmp_path / "image"
    refused = 0
    for _ in range(150):
        torn = bytearray(data)
        for _ in range(random.integers(1, 5)):
            torn[random.integers(min(len(torn), 200))] = random.integers(256)
        path.write_bytes(torn)
        try:
            shape = read_header(path).shape
            assert decode(path, UNCHANGED).shape == (shape.height, shape.width, shape.channels)
        except InputError:
            refused += 1
    assert refused > 0
