"""Processes on this machine, and a guard that ends those of a Ray whose driver was killed.

As a script, this page is the guard, which must start fast.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

# How long processes may take to end by themselves, and after they were told to.
ALONE_SECONDS, END_SECONDS = 2.0, 5.0
KEEP = b"keep"


class Guard:
    """A process that waits for the end of this one, and then ends what has files open in folders.

    These are the folders that match `pattern` in `parent`, and do not exist yet. They are removed,
    unless the guard is told to `keep` them.
    """

    def __init__(self, parent: Path, pattern: str) -> None:
        self._parent, self._pattern = parent, pattern
        # Listed here: when the guard has started, there may be new ones.
        self._others = set(parent.glob(pattern))
        others = map(str, self._others)
        # In a session of its own: what ends this process by a signal to its group must not end it.
        self._process = subprocess.Popen(
            [sys.executable, "-I", __file__, str(os.getpid()), str(parent), pattern, *others],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def folders(self) -> list[Path]:
        """The guarded folders that exist, the latest last."""
        return sorted(set(self._parent.glob(self._pattern)) - self._others)

    def keep(self) -> None:
        """Let the folders stay."""
        assert self._process.stdin is not None
        self._process.stdin.write(KEEP)
        self._process.stdin.flush()


def found(*parts: str) -> list[int]:
    """The running processes whose command lines contain all `parts`."""
    commands = {
        process.pid: " ".join(process.info["cmdline"] or ())
        for process in psutil.process_iter(["cmdline"])
    }
    return [pid for pid, command in commands.items() if all(part in command for part in parts)]


def is_running(pid: int) -> bool:
    """Whether a process is there, and not only waited for."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def end_users(folders: Sequence[Path], spared: int | None = None) -> None:
    """End all processes that have files open in `folders`, except this one and `spared`."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + END_SECONDS
        while (users := _users(folders) - {os.getpid(), spared}) and time.monotonic() < deadline:
            for pid in users:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            time.sleep(0.5)


def remove(folder: Path) -> None:
    """Remove a folder, although the last processes may still write to it."""
    for _ in range(10):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(0.1)


def _users(folders: Sequence[Path]) -> set[int]:
    inside = tuple(f"{folder.resolve()}/" for folder in folders)
    users = set()
    for process in psutil.process_iter():
        # Processes of others cannot be read, and some end meanwhile.
        with contextlib.suppress(psutil.Error):
            if any(file.path.startswith(inside) for file in process.open_files()):
                users.add(process.pid)
    return users


def _guard(guarded: int, parent: Path, pattern: str, others: Sequence[str]) -> None:
    keep = sys.stdin.buffer.read() == KEEP
    time.sleep(ALONE_SECONDS)
    folders = [folder for folder in parent.glob(pattern) if str(folder) not in others]
    # It may need no guard any more, and do other things.
    end_users(folders, spared=guarded)
    for folder in () if keep else folders:
        remove(folder)


if __name__ == "__main__":
    _guard(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4:])
