"""Runs that are asked to end, and runs whose Ray or driver is killed: on this machine, for real."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from tests.support.runs import (
    HANGING,
    ONE_WORKER,
    SETTING,
    Finished,
    Launcher,
    check_equal,
    count,
    count_trials,
    ended,
    said,
    tables,
    wait_until,
)

# Trials that last long against the second between two questions of a worker.
LONG = [*ONE_WORKER, "--set=epochs=2000"]
GONE_SECONDS = 20.0
# Part of the title of a worker that trains a trial.
TRAINING = ", epoch "


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    found: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return found


def named(process: subprocess.Popen[str], name: str) -> list[psutil.Process]:
    """The processes that a run has started, by a part of their command."""
    found = []
    for child in children(process):
        try:
            if name in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


@contextmanager
def training(launcher: Launcher, name: str, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A run that trains its first trials."""
    process = launcher.start(f"--name={name}", *LONG, *flags)
    try:
        wait_until(lambda: bool(named(process, TRAINING)), process)
        yield process
    finally:
        process.kill()


def sessions(process: subprocess.Popen[str]) -> list[Path]:
    """The folder of a run's Ray: the latest, as an earlier process may have had the same id."""
    return sorted(Path("/tmp/ray").glob(f"session_*_{process.pid}"))[-1:]


def check_gone(processes: list[psutil.Process], folders: list[Path]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=GONE_SECONDS)
    assert not alive
    assert not [folder for folder in folders if folder.exists()]


def test_sigterm_lets_trials_save_between_two_epochs(launcher: Launcher) -> None:
    with training(launcher, "asked", "--grace=600") as process:
        started, folders = children(process), sessions(process)
        assert folders
        # Ray's processes are not niced.
        mine = os.getpriority(os.PRIO_PROCESS, process.pid)
        workers = named(process, TRAINING)
        assert {os.getpriority(os.PRIO_PROCESS, worker.pid) for worker in workers} == {mine}
        process.send_signal(signal.SIGTERM)
        _, err = ended(process, code=143)
    folder = launcher.folder / "asked"
    last = err.splitlines()[-1]
    assert last.startswith("error: ended by SIGTERM; continue with ")
    assert last.endswith(f" -m tuning.launch --resume --out {launcher.folder} --name asked")
    assert "Traceback" not in err
    check_gone(started, folders)
    saved = [
        torch.load(path, weights_only=True)
        for path in folder.glob("tune/*/*/checkpoint_*/training.pt")
    ]
    assert saved
    assert all(state["scored"] == 0 for state in saved)
    assert any(0 < state["training"]["epoch"] < 2000 for state in saved)


def test_a_run_that_is_ended_in_each_of_its_stages_equals_the_reference(
    reference_run: Finished, launcher: Launcher
) -> None:
    folder = launcher.folder / "ended"
    votes = "SELECT COUNT(*) FROM counts WHERE phase = 'estimate'"
    process = first_of_two(launcher, "--name=ended", *ONE_WORKER)
    before: list[dict[str, Any]] = []
    for reached, number, code in (
        (lambda it: said(it, "search: 0"), signal.SIGHUP, 129),
        (lambda _: count_trials(folder) >= 7, signal.SIGINT, 130),
        (lambda it: said(it, "confirmation trainings: 0"), signal.SIGHUP, 129),
        (lambda _: count(folder / SETTING / "votes.db", votes) >= 3, signal.SIGINT, 130),
    ):
        wait_until(partial(reached, process), process)
        if number == signal.SIGINT:
            # As a terminal does, for all of its processes.
            os.killpg(process.pid, number)
        else:
            process.send_signal(number)
        _, err = ended(process, code)
        assert "--resume" in err.splitlines()[-1]
        assert "Traceback" not in err
        (trials,) = tables(folder, ["trials"]) if count_trials(folder) else [[]]
        assert trials[: len(before)] == before
        before = trials
        process = launcher.start("--name=ended", "--resume", "--json")
    ended(process)
    assert tables(folder, ["trials"])[0][: len(before)] == before
    check_equal(folder, reference_run.folder)
    assert not list((folder / SETTING / "denoisers").glob("*.pt"))
    launcher.certify("--verify", folder)


def first_of_two(launcher: Launcher, *arguments: str) -> subprocess.Popen[str]:
    """The run of which two launchers were started at once, of which one is refused."""
    both = {launcher.start(*arguments) for _ in range(2)}
    while not (over := {process for process in both if process.poll() is not None}):
        time.sleep(0.1)
    (refused,) = over
    _, err = ended(refused, code=2)
    assert err.startswith("error: --name: ")
    assert err.count("\n") == 1
    (first,) = both - over
    return first


@pytest.mark.parametrize(
    ("name", "what"), [("raylet/raylet", "the raylet"), ("gcs_server", "the head of Ray")]
)
def test_a_killed_ray_is_one_line_and_exit_code_four(
    launcher: Launcher, name: str, what: str
) -> None:
    with training(launcher, name.partition("/")[0]) as process:
        started, folders = children(process), sessions(process)
        named(process, name)[0].kill()
        _, err = ended(process, code=4)
    last = err.splitlines()[-1]
    assert last.startswith(f"error: the run stopped: {what}")
    assert "-m tuning.launch --resume" in last
    # Its logs stay, until the next run starts.
    assert str(folders[0] / "logs") in last
    assert (folders[0] / "logs").is_dir()
    assert "Traceback" not in err
    check_gone(started, [])


def test_a_killed_driver_leaves_nothing(launcher: Launcher) -> None:
    with training(launcher, "left") as process:
        started, folders = children(process), sessions(process)
        process.kill()
        process.communicate(timeout=HANGING)
        check_gone(started, folders)
