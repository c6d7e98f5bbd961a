"""Fetching a published data set: all of it or nothing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from trainables.data.images import Dataset
from trainables.errors import InputError

# Seconds after which to give up on a server that sends nothing; torchvision sets no limit.
SILENCE = 60.0
# What readers raise for files that are damaged or not what their names say.
READ_ERRORS = (AssertionError, LookupError, OSError, RuntimeError, TypeError, ValueError)


def fetch(
    name: str, folder: Path, files: Sequence[Path], download: Callable[[Path], Dataset]
) -> Dataset:
    """The data set `name`, whose `files` are then in `folder`.

    `download` fetches them into the folder that it is given, and reads them.

    Raises:
        InputError: when that fails; then `folder` is as it was.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Downloaded beside the data, and moved once it has been read: otherwise an interruption
        # could leave an incomplete file, which torchvision would take for MNIST at the next start.
        with TemporaryDirectory(prefix=".download-", dir=folder) as staging, _silence_limit():
            dataset = download(Path(staging))
            for file in files:
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                os.replace(staging / file, folder / file)
    except (*READ_ERRORS, HTTPException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(
            f"{name} could not be fetched ({reason}); try again, or put "
            f"{', '.join(file.name for file in files)} into {(folder / files[0]).parent} by hand",
            field="download",
        ) from error
    return dataset


@contextmanager
def _silence_limit() -> Iterator[None]:
    """Give up on servers that fall silent within the block."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
