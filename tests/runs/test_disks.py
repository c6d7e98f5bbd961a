"""Runs whose disk fails: it is full from some moment on, read-only, or the folder is gone.

`DECROP_DISKS=all` fills the disk in each phase.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.support.disks import SmallDisk, small_disk
from tests.support.runs import (
    ONE_WORKER,
    Finished,
    Launcher,
    check_equal,
    ended,
    said,
    wait_until,
)

# What a run says when a phase begins.
PHASES = {
    "start": "starting Ray",
    "search": "search: 0",
    "confirmation": "confirmation trainings: 0",
    "certification": "certification votes: 0",
    "report": "writing the report",
}
# Those of every suite: the one in which workers write as well, and the one with most votes.
FILLED = [*PHASES] if os.environ.get("DECROP_DISKS") == "all" else ["search", "certification"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk") as made:
        yield made


def on(disk: SmallDisk, launcher: Launcher) -> Launcher:
    """Starts runs there."""
    return replace(launcher, folder=disk.path)


def refused(err: str) -> str:
    """The only line of an error."""
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def test_a_full_disk_costs_nothing_but_time(
    reference_run: Finished, launcher: Launcher, disk: SmallDisk
) -> None:
    there = on(disk, launcher)
    process = there.start("--name=filled", *ONE_WORKER)
    for phase in FILLED:
        wait_until(partial(said, process, PHASES[phase]), process)
        disk.fill()
        _, err = ended(process, code=4)
        assert "--resume" in refused(err), phase
        disk.free()
        process = there.start("--name=filled", "--resume")
    ended(process)
    check_equal(disk.path / "filled", reference_run.folder)


def test_a_read_only_run_is_verified_and_not_continued(
    reference_run: Finished, launcher: Launcher, disk: SmallDisk
) -> None:
    folder = reference_run.copied(disk.path / "kept")
    disk.protect()
    there = on(disk, launcher)
    try:
        assert "follow from their counts" in launcher.certify("--verify", folder)
        for arguments in (["--resume", "--name=kept", "--trials=6"], ["--name=new", *ONE_WORKER]):
            assert "Read-only file system" in refused(there.run(*arguments, code=2).err)
    finally:
        disk.release()


def test_a_folder_that_is_deleted_ends_the_run_in_one_line(launcher: Launcher) -> None:
    process = launcher.start("--name=deleted", *ONE_WORKER)
    wait_until(partial(said, process, PHASES["search"]), process)
    shutil.rmtree(launcher.folder / "deleted")
    _, err = ended(process, code=4)
    assert "deleted" in refused(err)
    assert not list(launcher.folder.glob("deleted/*.parquet"))
