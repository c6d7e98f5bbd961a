"""Inputs that nobody would have thought of, and what a command may do with them."""

import io
import json
import os
import resource
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from trainables.errors import printable

SOAK = int(os.environ.get("DECROP_FUZZ", "0"))
DOCUMENTED = {0, 1, 2, 3, 4}
MOST_KILOBYTES = 1_000_000
# Of the processor, so that it does not matter what else goes on; in a suite, nor how fast it is.
MOST_SECONDS = 10 if SOAK else 100
# Of files of such tests: thousands of inputs take longer than any single test should.
UNHURRIED = [pytest.mark.timeout(0)] if SOAK else []
# How a file is damaged, and which and where.
DAMAGE = st.tuples(
    st.integers(0, 10**9),
    st.sampled_from([
        "emptied", "truncated", "flipped", "of another", "of another run", "missing", "a folder",
    ]),
    st.integers(0, 10**9),
)  # fmt: skip


def examples(number: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The same so many examples each time, or those of a soak test."""
    return settings(
        max_examples=SOAK or number,
        derandomize=not SOAK,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
        # Explaining a failure traces each line, which takes longer than a command may.
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
    )


class Said(NamedTuple):
    code: int
    out: str
    err: str


def run(main: Callable[[Sequence[str]], int], *arguments: str) -> Said:
    """What a command says, which must not take long, or much memory."""
    out, err = io.StringIO(), io.StringIO()
    memory, begun = most_memory(), time.process_time()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
    assert most_memory() - memory < MOST_KILOBYTES
    assert time.process_time() - begun < MOST_SECONDS
    return Said(code, out.getvalue(), err.getvalue())


def most_memory() -> int:
    """The most that this process ever had, in kilobytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def check_refusal(said: Said) -> None:
    """Whether it is one of a documented kind, in one line that a terminal can show."""
    assert said.code in DOCUMENTED - {0}, said
    last = said.err.removesuffix("\n").split("\n")[-1]
    assert last.startswith("error: "), said
    assert printable(last) == last, said
    assert "Traceback" not in said.err


def check(said: Said, folder: Path) -> None:
    """Whether a command that should write nothing was carried out, or refused."""
    if said.code:
        check_refusal(said)
        assert said.err.count("\n") == 1, said
    assert not any(folder.iterdir())


def damaged(folder: Path, which: int, how: str, place: int, other: Path) -> Path | None:
    """Damage a file of `folder`; its path, if that changed what is read of it.

    `other` is a folder with the same files of another run.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = files[which % len(files)]
    before = path.read_bytes()
    if how == "emptied":
        path.write_bytes(b"")
    elif how == "truncated":
        path.write_bytes(before[: place % len(before)])
    elif how == "flipped":
        at = place % len(before)
        path.write_bytes(before[:at] + bytes([before[at] ^ 1 << place % 8]) + before[at + 1 :])
    elif how == "of another":
        path.write_bytes(files[place % len(files)].read_bytes())
    elif how == "of another run":
        path.write_bytes((other / path.relative_to(folder)).read_bytes())
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
    same = path.is_file() and meaning(path.suffix, path.read_bytes()) == meaning(
        path.suffix, before
    )
    return None if same else path


def meaning(suffix: str, content: bytes) -> object:
    """What is read of a file: not the unused bytes of a database, or the spaces of JSON."""
    try:
        if suffix == ".json":
            return json.loads(content)
        if suffix == ".db" and content:
            with closing(sqlite3.connect(":memory:")) as db:
                db.deserialize(content)
                version = db.execute("PRAGMA user_version").fetchall()
                return version, db.execute("SELECT * FROM counts").fetchall()
    except (ValueError, sqlite3.Error):
        pass
    return content


def contents(folder: Path) -> dict[Path, bytes | None]:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}
