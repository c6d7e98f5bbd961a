"""Ray's processes on this machine, found by their command lines."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

# How long processes may take to end by themselves.
TERM_SECONDS = 3.0


def end_processes(session: str) -> None:
    """End the processes of a Ray session that this process started; others end with them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children_of(session):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + TERM_SECONDS
        while children_of(session) and time.monotonic() < deadline:
            time.sleep(0.1)


def children_of(session: str) -> list[int]:
    """The children of this process that work for a Ray session."""
    return [pid for pid in found(session) if _parent(pid) == os.getpid()]


def found(*parts: str) -> list[int]:
    """The running processes whose command lines contain all `parts`."""
    return [
        int(path.name)
        for path in Path("/proc").iterdir()
        if path.name.isdecimal() and _contains(path, parts)
    ]


def is_running(pid: int) -> bool:
    """Whether a process is there, and not only waited for."""
    try:
        state = _status(pid)[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _contains(process: Path, parts: Sequence[str]) -> bool:
    try:
        command = (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return False
    return all(part in command for part in parts)


def _parent(pid: int) -> int:
    try:
        return int(_status(pid)[1])
    except OSError:
        return 0


def _status(pid: int) -> list[str]:
    """State, parent, and more."""
    # The name before them is in parentheses, and may contain any character.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
