"""How a local Ray starts, and what is left of earlier ones; without a Ray."""

import os
import runpy
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import filelock
import pytest

from tuning.cluster import local_ray
from tuning.cluster.local_ray import LIMITS, LOCK, LOG_MONITOR, STARTING_SECONDS, prepare
from tuning.cluster.resources import Resources
from tuning.errors import CertificationIncomplete, ConfigError

RESOURCES = Resources(1, 0.0, 1)


class NoGuard:
    """Guards one folder, from nothing."""

    def __init__(self, folder: Path) -> None:
        self.folders, self.kept = [folder], False

    def keep(self) -> None:
        self.kept = True


@pytest.fixture
def guard(tmp_path: Path) -> Any:
    folder = tmp_path / "session_1"
    folder.mkdir()
    return NoGuard(folder)


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> list[Exception | str]:
    """What the next starts of Ray give."""
    outcomes: list[Exception | str] = []

    def start(resources: Resources, job: Mapping[str, str]) -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(local_ray, "_start", start)
    return outcomes


def test_a_start_that_fails_is_tried_twice_more(guard: Any, starts: list[Exception | str]) -> None:
    starts += [Exception("The current node timed out"), RuntimeError("again"), "a context"]
    assert local_ray._started(RESOURCES, guard, {}) == "a context"
    assert not guard.kept


def test_a_start_that_fails_three_times_is_one_line_with_the_place_of_the_logs(
    guard: Any, starts: list[Exception | str]
) -> None:
    starts += [
        Exception("once"),
        Exception("twice"),
        Exception("The current node timed out\nand so on"),
    ]
    with pytest.raises(CertificationIncomplete) as caught:
        local_ray._started(RESOURCES, guard, {})
    assert caught.value.exit_code == 4
    logs = guard.folders[0] / "logs"
    assert str(caught.value) == (
        f"Ray did not start on this machine: Exception: The current node timed out; its logs are "
        f"in {logs}"
    )
    assert guard.kept
    assert (guard.folders[0] / LOCK).exists()


@pytest.mark.parametrize("variable", ["RAY_TMPDIR", "TMPDIR"])
def test_a_temporary_folder_too_deep_for_sockets_is_named(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    for name in LIMITS:
        monkeypatch.setenv(name, "1")
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    deep = "/tmp/" + "d" * 60
    monkeypatch.setenv(variable, deep)
    with pytest.raises(ConfigError) as caught:
        prepare()
    assert str(caught.value).startswith(f"{variable}: {deep} is too long a path for Ray's sockets")
    assert "\n" not in str(caught.value)
    # The longest that fits, and one byte more.
    fits = deep[: int(str(caught.value).split("leave ")[1].split(" bytes")[0])]
    socket = f"{fits}/ray/session_2026-01-31_23-59-59_999999_{os.getpid()}/sockets/dash_MetricsHead"
    assert len(socket) == 107
    monkeypatch.setenv(variable, fits)
    prepare()
    monkeypatch.setenv(variable, fits + "d")
    with pytest.raises(ConfigError):
        prepare()


def test_limits_that_the_user_has_set_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = LIMITS
    monkeypatch.setenv(first, "7")
    for name in others:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_TMPDIR", "/tmp")
    prepare()
    assert os.environ[first] == "7"
    assert {name: os.environ[name] for name in others} == {name: LIMITS[name] for name in others}


def test_ray_knows_how_rarely_to_look_for_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in LOG_MONITOR.items():
        monkeypatch.setenv(name, value)
    read = runpy.run_module("ray._private.log_monitor")
    assert {name: str(int(read[name])) for name in LOG_MONITOR} == LOG_MONITOR


def test_folders_of_dead_runs_are_removed_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    dead, alive, starting, foreign = (
        tmp_path / "ray" / f"session_{name}" for name in ("dead", "alive", "starting", "foreign")
    )
    old = time.time() - STARTING_SECONDS - 1
    for folder in (dead, alive, starting, foreign):
        folder.mkdir(parents=True)
        if folder != foreign:
            (folder / LOCK).touch()
            os.utime(folder / LOCK, None if folder == starting else (old, old))
    latest = tmp_path / "ray" / "session_latest"
    latest.symlink_to(dead)
    with filelock.FileLock(alive / LOCK):
        os.utime(alive / LOCK, (old, old))
        local_ray._remove_old_sessions()
    assert not dead.exists()
    assert not latest.is_symlink()
    assert all(folder.exists() for folder in (alive, starting, foreign))
