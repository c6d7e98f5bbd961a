"""Where the work runs: a private local Ray, or an existing cluster."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import ray

from tuning.config import RunConfig
from tuning.errors import ConfigError

DEFAULT_PORT = 6379
CONNECT_TIMEOUT = 5.0
OBJECT_STORE_BYTES = 1_000_000_000


@dataclass(frozen=True)
class Resources:
    """What a run uses: `concurrency` workers of `cpus_per_trial` cores each."""

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int

    @property
    def device(self) -> str:
        """The torch device of a worker."""
        return "cuda" if self.gpus_per_trial else "cpu"


@dataclass(frozen=True)
class Cluster:
    """A Ray that is connected: its address, dashboard (or None) and the run's resources."""

    address: str
    dashboard: str | None
    resources: Resources


def local_resources(config: RunConfig) -> Resources:
    """What a local run uses: every core, unless --concurrency says less.

    Raises:
        ConfigError: when the machine has too few cores for one trial.
    """
    return _fit(config, len(os.sched_getaffinity(0)), "this machine has")


def check_reachable(config: RunConfig) -> None:
    """Make sure, before anything is written, that there is something to run on.

    Raises:
        ConfigError: when nothing listens at the cluster's address, or this machine is too small.
    """
    if config.cluster is None:
        local_resources(config)
        return
    address = _address(config)
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_TIMEOUT).close()
    except ValueError as error:
        raise ConfigError(f"--cluster: {address!r} is no HOST:PORT") from error
    except OSError as error:
        raise ConfigError(
            f"--cluster: no Ray cluster answers at {address}; start one with `ray start --head`, "
            "or pass another address"
        ) from error


@contextmanager
def connect(config: RunConfig) -> Iterator[Cluster]:
    """Start a local Ray, or join the cluster that --cluster names, and leave it at the end.

    A local run never attaches to a Ray that somebody else started.

    Raises:
        ConfigError: when there is no cluster, it refuses the token, or it is too small.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    try:
        yield _join(config) if config.cluster is not None else _start(config)
    finally:
        ray.shutdown()


def _start(config: RunConfig) -> Cluster:
    resources = local_resources(config)
    private_token()
    context = ray.init(
        address="local",
        num_cpus=max(resources.concurrency * resources.cpus_per_trial, 1),
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        log_to_driver=False,
        object_store_memory=OBJECT_STORE_BYTES,
    )
    return Cluster("local", context.dashboard_url, resources)


def _join(config: RunConfig) -> Cluster:
    address = _address(config)
    try:
        context = ray.init(address=address, log_to_driver=False)
    except Exception as error:  # Ray raises a dozen unrelated types here
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"--cluster: the Ray cluster at {address} refused the connection: {reason} "
            "(check RAY_AUTH_TOKEN, or that both sides run the same versions)"
        ) from error
    cpus = int(ray.cluster_resources().get("CPU", 0))
    return Cluster(address, context.dashboard_url, _fit(config, cpus, f"{address} has"))


def _fit(config: RunConfig, cpus: int, who: str) -> Resources:
    concurrency = min(config.concurrency or cpus, cpus // config.cpus_per_trial)
    if concurrency < 1:
        raise ConfigError(
            f"--cpus-per-trial: {config.cpus_per_trial} asked for, but {who} {cpus} cores"
        )
    return Resources(config.cpus_per_trial, config.gpus_per_trial, concurrency)


def _address(config: RunConfig) -> str:
    address = os.environ.get("RAY_ADDRESS") if config.cluster == "auto" else config.cluster
    if not address:
        raise ConfigError(
            "--cluster: no address given and RAY_ADDRESS is not set; pass --cluster HOST:PORT, "
            "or start a cluster with `ray start --head`"
        )
    return address if ":" in address else f"{address}:{DEFAULT_PORT}"


def private_token() -> None:
    """Make sure that Ray's token exists and that its owner alone can read it.

    Ray would generate it readable by everybody.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = Path.home() / ".ray" / "auth_token"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_file():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
