"""Files that a stranger sends under the names of images."""

import os
import socket
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.image_bytes import chunk, encoded, patched, png
from tests.support.image_folders import picture, write_folder
from tests.support.refusal import refusal
from trainables.data.datasets import load_dataset
from trainables.data.form import UNCHANGED
from trainables.data.image_files import decode, read_header
from trainables.errors import InputError

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 7 5\n%%EndComments\nshowpage\n%%EOF\n"


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
