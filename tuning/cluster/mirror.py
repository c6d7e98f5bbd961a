"""A copy of the run folder in the storage, from which any host can continue."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from results.store import write_bytes, write_text
from tuning.cluster.storage import SCRATCH, Storage
from tuning.errors import ConfigError

# Files in the run folder: a lock for the process that works on it, and an id of the last one that
# copied it.
LOCK, WRITER = ".lock", ".writer"
# Not copied, because they concern only this machine.
LEFT_OUT = (LOCK, WRITER)
# The least time between two copies.
SECONDS = 5.0


class Mirror:
    """Keeps a copy of `folder` in `storage`, nearly up to date."""

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder, self._storage = folder, storage
        self._copied: dict[str, tuple[int, int]] = {}

    @property
    def exists(self) -> bool:
        """Whether the storage holds a run.

        Raises:
            ConfigError: when the storage cannot be read.
        """
        return bool(self._writer())

    def fetch(self) -> None:
        """Replace the folder by the copy, if a different host was the last to work on the run.

        The old folder is kept beside it.

        Raises:
            ConfigError: when the storage cannot be read.
        """
        writer, mine = self._writer(), self._folder / WRITER
        if not writer or (mine.is_file() and mine.read_text() == writer):
            return
        stamp = uuid.uuid4().hex[:8]
        fetched = self._folder.with_name(f".{self._folder.name}.{stamp}")
        try:
            for name in self._storage.files():
                if not name.startswith(f"{SCRATCH}/"):
                    write_bytes(fetched / name, self._storage.read(name))
        except OSError as error:
            shutil.rmtree(fetched, ignore_errors=True)
            raise _unreadable(self._storage, error) from error
        if self._folder.exists():
            self._folder.rename(self._folder.with_name(f"{self._folder.name}.before-{stamp}"))
        fetched.rename(self._folder)

    @contextmanager
    def following(self) -> Iterator[None]:
        """Copy changes while the block runs, and all remaining ones at its end.

        Raises:
            OSError: when the storage fails at the beginning or the end; in between, it may fail.
        """
        self._take_over()
        ended = threading.Event()
        thread = threading.Thread(target=self._follow, args=(ended,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.push()

    def push(self) -> None:
        """Copy what has changed since the last time.

        Raises:
            OSError: when the storage fails.
        """
        for path in sorted(self._folder.rglob("*")):
            name = str(path.relative_to(self._folder))
            if name in LEFT_OUT or path.suffix in (".tmp", ".db-journal") or not path.is_file():
                continue
            with contextlib.suppress(FileNotFoundError):
                state = (path.stat().st_mtime_ns, path.stat().st_size)
                if self._copied.get(name) != state:
                    self._storage.write(name, _content(path))
                    self._copied[name] = state

    def _follow(self, ended: threading.Event) -> None:
        pause = SECONDS
        while not ended.wait(pause):
            started = time.monotonic()
            with contextlib.suppress(OSError, sqlite3.Error):
                self.push()
            # Copying a large study takes a while; it should not keep the storage busy all the time.
            pause = max(SECONDS, 10 * (time.monotonic() - started))

    def _take_over(self) -> None:
        writer = uuid.uuid4().hex
        write_text(self._folder / WRITER, writer)
        self.push()
        self._storage.write(WRITER, writer.encode())

    def _writer(self) -> str:
        try:
            return self._storage.read(WRITER).decode()
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise _unreadable(self._storage, error) from error


def _unreadable(storage: Storage, error: OSError) -> ConfigError:
    reason = str(error).strip().splitlines()[0]
    return ConfigError(f"--storage: {storage.folder} cannot be read: {reason}")


def _content(path: Path) -> bytes:
    if path.suffix != ".db":
        return path.read_bytes()
    # A consistent copy, although another process may be writing to it.
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        with closing(sqlite3.connect(path, timeout=30)) as db, closing(sqlite3.connect(copy)) as to:
            db.backup(to)
        return copy.read_bytes()
