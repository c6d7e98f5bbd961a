"""A private Ray on this machine: patient while it starts, and gone when the run is.

Imports Ray only when it starts: Ray reads most of `LIMITS` when it is imported.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import filelock

from trainables.errors import describe_error
from tuning.cluster.ending import ENDING
from tuning.cluster.processes import Guard, end_users, remove
from tuning.cluster.resources import Resources
from tuning.errors import CertificationIncomplete, ConfigError

OBJECT_STORE_BYTES = 1_000_000_000
# Seconds that Ray's processes wait for each other, on a machine that is busy with other things. The
# agents of its raylet have only 15 s, which no variable changes: that is why it is tried again.
LIMITS = {
    "RAY_gcs_server_port_wait_time_s": "60",
    "RAY_py_gcs_connect_timeout_s": "60",
    "RAY_raylet_start_wait_time_s": "60",
    "RAY_worker_register_timeout_seconds": "300",
}
TRIES = 3
# What each worker imports when it starts, while the driver is still busy with other things. Only
# libraries: workers learn later where this project is.
IMPORTED = "torch", "ray.tune", "scipy.special", "pydantic", "safetensors.torch"
PRELOAD = "RAY_preload_python_modules"
WORKERS = {
    PRELOAD: ",".join(IMPORTED),
    # Idle workers end only after a day. By default they do after a second if there are more of them
    # than free cores, and would start again between the search, the confirmation and the votes.
    "RAY_idle_worker_killing_time_threshold_ms": "86400000",
}
# What workers print stays in their logs. Ray would look for new logs ten times a second, to pass on
# what is in them, which takes a thirtieth of a core.
LOG_MONITOR = {
    "RAY_LOG_MONITOR_MANY_FILES_THRESHOLD": "0",
    "LOG_NAME_UPDATE_INTERVAL_S": "86400",
}
# Relative to the driver. By default workers yield to everything else on the machine: beside other
# work they would hardly run.
NICENESS, NICENESS_VALUE = "RAY_worker_niceness", "0"
# The longest path that a Unix socket can have, in bytes, and the longest that Ray gives to one.
SOCKET_BYTES = 107
SOCKET = "ray/session_2026-01-31_23-59-59_999999_{}/sockets/dash_MetricsHead"
# Held by the driver for as long as it lives.
LOCK = "decrop.lock"
# A lock file that was made a moment ago may not be held yet.
STARTING_SECONDS = 60.0


class LocalRay(NamedTuple):
    """The address of its dashboard, if it has one, and where its logs are."""

    dashboard: str | None
    logs: Path


def prepare() -> None:
    """Set up this process for a Ray that is imported and started later.

    Raises:
        ConfigError: when the temporary folder is too deep for it.
    """
    for name, value in {**LIMITS, **WORKERS, **LOG_MONITOR}.items():
        os.environ.setdefault(name, value)
    left = SOCKET_BYTES - len(SOCKET.format(os.getpid())) - 1
    variable, folder = _temporary()
    if len(os.fsencode(folder)) > left:
        raise ConfigError(
            f"{variable}: {folder} is too long a path for Ray's sockets, which leave {left} bytes; "
            "set RAY_TMPDIR to a shorter one, for example /tmp"
        )


@contextmanager
def local_ray(
    resources: Resources, job: Mapping[str, str] = MappingProxyType({})
) -> Iterator[LocalRay]:
    """Start a Ray for this process only, and end all of it after the block.

    `job` is what its dashboard says about this process.
    Its folder is removed as well; after a crash of Ray, only by a later start.

    Raises:
        CertificationIncomplete: when Ray does not start, with the reason and the place of its logs.
    """
    import ray

    _remove_old_sessions()
    os.environ.setdefault(NICENESS, NICENESS_VALUE)
    # Some of Ray's processes live on for minutes if this one is killed.
    guard = Guard(_folder(), f"session_*_{os.getpid()}")
    context = _started(resources, guard, job)
    session = Path(str(context.address_info["session_dir"]))
    with filelock.FileLock(session / LOCK):
        try:
            yield LocalRay(context.dashboard_url, session / "logs")
        finally:
            if ENDING.lost:
                # A shutdown would wait for what is gone.
                end_users([session])
                if not ENDING.asked:
                    guard.keep()
            else:
                ray.shutdown()
                for folder in guard.folders:
                    _remove(folder)


def _started(resources: Resources, guard: Guard, job: Mapping[str, str]) -> Any:
    """Start Ray; again if that fails, when the disk's cache holds what it has read."""
    for _ in range(TRIES - 1):
        try:
            return _start(resources, job)
        except Exception:  # Ray raises a dozen unrelated types here
            end_users(guard.folders)
    try:
        return _start(resources, job)
    except Exception as error:
        end_users(guard.folders)
        where = "it left no logs"
        for folder in guard.folders:
            # The next start removes what is locked by nobody.
            (folder / LOCK).touch()
            where = f"its logs are in {folder / 'logs'}"
        guard.keep()
        raise CertificationIncomplete(
            f"Ray did not start on this machine: {describe_error(error)}; {where}"
        ) from error


def _start(resources: Resources, job: Mapping[str, str]) -> Any:
    import ray
    from ray.job_config import JobConfig

    # A terminal that is closed sends SIGHUP to all of its processes. Ray's must not end before this
    # one has ended the run.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        return ray.init(
            address="local",
            job_config=JobConfig(metadata=dict(job)),
            num_cpus=max(resources.concurrency * resources.cpus_per_trial, 1),
            include_dashboard=True,
            dashboard_host="127.0.0.1",
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
        )
    except SystemExit:
        # This is how Ray handles SIGTERM, until `ENDING` listens again.
        ENDING.receive(signal.SIGTERM)
        raise
    finally:
        signal.signal(signal.SIGHUP, before)


def _temporary() -> tuple[str, str]:
    """Where Ray puts its folder `ray`, and the variable that says so."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if variable in os.environ:
            return variable, os.environ[variable]
    return "RAY_TMPDIR", "/tmp"


def _folder() -> Path:
    """Where Ray has a folder for each of its sessions."""
    return Path(_temporary()[1]) / "ray"


def _remove_old_sessions() -> None:
    """Remove what was left by runs that were killed."""
    for session in _folder().glob("session_*"):
        # It is locked while its driver lives, and belongs to others if it cannot be opened.
        with contextlib.suppress(filelock.Timeout, OSError):
            if time.time() - (session / LOCK).stat().st_mtime > STARTING_SECONDS:
                with filelock.FileLock(session / LOCK, blocking=False):
                    _remove(session)


def _remove(session: Path) -> None:
    latest = session.with_name("session_latest")
    with contextlib.suppress(OSError):
        if latest.resolve() == session:
            latest.unlink()
    remove(session)
