"""ZIP archives from elsewhere: opened only if reading them takes about as much memory as the file.

PyTorch's checkpoints and exported programs are such archives.
"""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from trainables.errors import InputError

# How much larger than the file its members may be; weights hardly shrink when they are compressed.
_EXPANSION = 4
_SMALL = 16 * 2**20
_MEMBERS = 2**16
_END, _LOCATOR, _LARGE_END = b"PK\x05\x06", b"PK\x06\x07", b"PK\x06\x06"


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive at `path`, whose members are unique, and together not much larger than the file.

    Raises:
        InputError: when they are not; the message begins after the file's name.
        OSError, ValueError, zipfile.BadZipFile: when the file is damaged.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        # First, because opening the archive reads the whole directory.
        _check_directory(file, size)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if len(members) != len({member.filename.lower() for member in members}):
                raise InputError("holds two parts of the same name; save it again")
            total = sum(member.file_size for member in members)
            if total > _EXPANSION * size + _SMALL:
                raise InputError(
                    f"would unpack to {total:,} bytes from {size:,}; save it again, uncompressed"
                )
            yield archive


def _check_directory(file: IO[bytes], size: int) -> None:
    """Refuse more than one directory: a different reader could find a different one."""
    end = size - 22
    file.seek(max(0, end - 20))
    tail = file.read()
    if len(tail) < 22 or tail[-22:-18] != _END:
        raise ValueError("the archive does not end with its directory")
    members, length, start = struct.unpack("<HLL", tail[-12:-2])
    if tail[:4] == _LOCATOR:
        (end,) = struct.unpack("<Q", tail[8:16])
        file.seek(end)
        record = file.read(56)
        if record[:4] != _LARGE_END or end + 56 != size - 42:
            raise ValueError("the archive has a damaged directory")
        members, length, start = struct.unpack("<3Q", record[32:])
    if start + length != end:
        raise ValueError("the archive has a damaged directory")
    if members > _MEMBERS or length > 256 * _MEMBERS:
        raise InputError(f"has {members:,} parts, more than {_MEMBERS:,}; save only the weights")
