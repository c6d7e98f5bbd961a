"""The guard of a process that is killed, with real processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.support.runs import HANGING, REPO
from tuning.cluster.processes import end_users, found, is_running

# A process with a guard, and another one that has a file open in the guarded folder.
DRIVER = """
import os, subprocess, sys, time
from pathlib import Path
from tuning.cluster.processes import Guard
parent = Path(sys.argv[1])
(parent / "session_old").mkdir(parents=True)
guard = Guard(parent, "session_*")
new = parent / "session_new"
new.mkdir()
if sys.argv[2] == "keep":
    guard.keep()
with (new / "log").open("w") as log:
    other = subprocess.Popen(["sleep", "9999"], stdout=log, stdin=subprocess.DEVNULL)
    print(other.pid, flush=True)
    if sys.argv[2] != "end":
        time.sleep(9999)
    # As when Python ends, before its files are closed.
    guard._process.stdin.close()
    while other.poll() is None:
        time.sleep(0.1)
print("still there", flush=True)
"""


def start(folder: Path, what: str) -> tuple[subprocess.Popen[str], int]:
    """A driver, and the process that it has started."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder), what],
        cwd=REPO,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, int(process.stdout.readline())


def wait_for_end(pid: int) -> None:
    deadline = time.monotonic() + HANGING
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_gone(folder: Path) -> None:
    deadline = time.monotonic() + HANGING
    while folder.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_a_killed_process_leaves_is_ended_and_removed(tmp_path: Path) -> None:
    process, other = start(tmp_path / "ray", "kill")
    process.kill()
    process.communicate(timeout=HANGING)
    assert is_running(other)
    wait_for_end(other)
    wait_until_gone(tmp_path / "ray" / "session_new")
    # It was there before.
    assert (tmp_path / "ray" / "session_old").exists()


def test_logs_that_somebody_may_want_to_read_are_kept(tmp_path: Path) -> None:
    process, other = start(tmp_path / "ray", "keep")
    process.kill()
    process.communicate(timeout=HANGING)
    wait_for_end(other)
    assert (tmp_path / "ray" / "session_new" / "log").exists()


def test_the_guarded_process_itself_is_spared(tmp_path: Path) -> None:
    process, other = start(tmp_path / "ray", "end")
    out, _ = process.communicate(timeout=HANGING)
    assert out.strip() == "still there"
    assert not is_running(other)


def test_only_users_of_the_folder_end(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "ab").mkdir()
    with (tmp_path / "a" / "x").open("w") as inside, (tmp_path / "ab" / "x").open("w") as beside:
        user, neighbour = (subprocess.Popen(["sleep", "99"], stdout=f) for f in (inside, beside))
        try:
            end_users([tmp_path / "a"])
            assert user.wait(timeout=HANGING) == -signal.SIGTERM
            assert is_running(neighbour.pid)
        finally:
            neighbour.kill()
            neighbour.wait()


def test_processes_are_found_by_their_commands() -> None:
    with subprocess.Popen(["sleep", "98.7654321"]) as process:
        # For a moment after its start, it has no command line.
        while not found("sleep", "98.7654321"):
            time.sleep(0.01)
        assert process.pid in found("sleep", "98.7654321")
        assert process.pid not in found("sleep", "98.7654322")
        process.kill()
    assert not is_running(process.pid)
    assert is_running(os.getpid())
