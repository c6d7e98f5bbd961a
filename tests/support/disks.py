"""A small disk of its own, which fills up, becomes read-only, and recovers. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

# A run in a test leaves 5 MB.
SIZE = "64m"
PIECE = bytes(1 << 16)


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory, at `path`."""

    path: Path

    def fill(self) -> None:
        """Leave no room for a single byte."""
        with self._ballast.open("wb", buffering=0) as ballast:
            for size in (len(PIECE), 1):
                try:
                    while ballast.write(PIECE[:size]):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """Undo what `fill` did."""
        self._ballast.unlink()

    def protect(self) -> None:
        """Make it read-only, which is impossible while somebody writes to a file there."""
        _mount("-o", "remount,ro,size=" + SIZE, str(self.path))

    def release(self) -> None:
        """Undo what `protect` did."""
        _mount("-o", "remount,rw,size=" + SIZE, str(self.path))

    @property
    def _ballast(self) -> Path:
        return self.path / "ballast"


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """A new disk at `path`, a folder that is made for it."""
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    try:
        _mount("-t", "tmpfs", "-o", "size=" + SIZE, "tmpfs", str(path))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no file system can be mounted: {error.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        # Lazily: a process that was not to outlive the test may still have a file open.
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
