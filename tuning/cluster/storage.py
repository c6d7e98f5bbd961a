"""A place that every host of a cluster reaches: a shared folder, or a bucket."""

from __future__ import annotations

import posixpath
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem

from tuning.errors import ConfigError

# The folder in a run's storage for files that only a running search needs.
SCRATCH = "tune"
# Seconds before a file is read again. Arrow repeats a request that a bucket refuses, but not if the
# refusal is longer than the file.
PAUSES = (0.2, 1.0, 5.0)


@dataclass(frozen=True)
class Storage:
    """A folder in a file system; both are sent to the workers, but no credentials."""

    filesystem: FileSystem
    folder: str

    def __truediv__(self, name: str) -> Storage:
        """The folder `name` in this one."""
        return Storage(self.filesystem, self.path(name))

    def path(self, name: str) -> str:
        """The path of `name` in this folder, for its file system."""
        return posixpath.join(self.folder, name)

    def files(self) -> list[str]:
        """The names of all files below the folder, sorted; none if it does not exist."""
        selector = FileSelector(self.folder, recursive=True, allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted(
            posixpath.relpath(info.path, self.folder)
            for info in found
            if info.type == FileType.File
        )

    def folders(self) -> list[str]:
        """The names of the folders directly in this one, sorted; none if it does not exist."""
        selector = FileSelector(self.folder, allow_not_found=True)
        found = self.filesystem.get_file_info(selector)
        return sorted(info.base_name for info in found if info.type == FileType.Directory)

    def read(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            OSError: when it cannot be read.
        """
        for pause in PAUSES:
            try:
                return self._read(name)
            except FileNotFoundError:
                raise
            except OSError:
                time.sleep(pause)
        return self._read(name)

    def _read(self, name: str) -> bytes:
        with self.filesystem.open_input_stream(self.path(name)) as stream:
            content: bytes = stream.read()
        return content

    def write(self, name: str, content: bytes) -> None:
        """Replace a file in one step, creating its folder.

        Raises:
            OSError: when it cannot be written.
        """
        path = self.path(name)
        # A bucket shows an object only when it is complete; a file is visible from its first byte.
        partial = f"{path}.tmp" if isinstance(self.filesystem, LocalFileSystem) else path
        self.filesystem.create_dir(posixpath.dirname(path))
        with self.filesystem.open_output_stream(partial) as stream:
            stream.write(content)
        if partial != path:
            self.filesystem.move(partial, path)

    def remove(self) -> None:
        """Delete the folder with everything in it, if it exists.

        Raises:
            OSError: when it cannot be deleted.
        """
        if self.filesystem.get_file_info(self.folder).type == FileType.Directory:
            self.filesystem.delete_dir(self.folder)


def local_storage(folder: Path) -> Storage:
    """A folder on this machine, or on a disk that hosts share."""
    return Storage(LocalFileSystem(), str(folder.resolve()))


def open_storage(url: str) -> Storage:
    """The storage that --storage names; a bucket must exist.

    Raises:
        ConfigError: when it cannot be reached.
    """
    try:
        if not urlsplit(url).scheme:
            storage = local_storage(Path(url))
            Path(url).mkdir(parents=True, exist_ok=True)
        else:
            storage = Storage(*FileSystem.from_uri(url))
        bucket = storage.folder.split("/")[0] or storage.folder
        found = storage.filesystem.get_file_info(bucket).type
    except (OSError, ValueError) as error:
        raise ConfigError(f"--storage: {url} cannot be used: {_first_line(error)}") from error
    if found != FileType.Directory:
        raise ConfigError(f"--storage: {url} does not exist; create the bucket or folder first")
    return storage


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
