"""Where the work runs: a private local Ray, or an existing cluster.

Ray is imported only when it is started, after `check_reachable` has set what it then reads.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from tuning.address import check_cluster, cluster_address, token_file
from tuning.config import RunConfig
from tuning.errors import ConfigError

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

    @property
    def devices_per_trial(self) -> float:
        """What a trial takes of the devices that a budget counts: GPUs, or cores without them."""
        return self.gpus_per_trial or float(self.cpus_per_trial)


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
    cores, gpus = len(os.sched_getaffinity(0)), torch.cuda.device_count()
    return fit_resources(config, cores, gpus, "this machine has")


def check_reachable(config: RunConfig) -> None:
    """Make sure, before anything is written, that there is something to run on.

    Raises:
        ConfigError: when no cluster answers or it refuses us, or this machine is too small.
    """
    if config.cluster is None:
        local_resources(config)
    else:
        check_cluster(cluster_address(config))


@contextmanager
def connect(config: RunConfig) -> Iterator[Cluster]:
    """Start a local Ray, or join the cluster that --cluster names, and leave it at the end.

    A local run never attaches to a Ray that somebody else started.

    Raises:
        ConfigError: when there is no cluster, it refuses the token, or it is too small.
    """
    import ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    try:
        yield _join(config) if config.cluster is not None else _start(config)
    finally:
        ray.shutdown()


def _start(config: RunConfig) -> Cluster:
    import ray

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
    import ray

    address = cluster_address(config)
    try:
        context = ray.init(address=address, log_to_driver=False)
    except Exception as error:  # Ray raises a dozen unrelated types here
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(
            f"--cluster: the Ray cluster at {address} cannot be joined: {reason} "
            "(both sides need the same versions of Ray and Python)"
        ) from error
    found = ray.cluster_resources()
    resources = fit_resources(
        config, int(found.get("CPU", 0)), int(found.get("GPU", 0)), f"{address} has"
    )
    return Cluster(address, context.dashboard_url, resources)


def fit_resources(config: RunConfig, cpus: int, gpus: int, who: str) -> Resources:
    """As many workers as fit; each has a GPU where there are any, unless the user says otherwise.

    Raises:
        ConfigError: when not even one fits; Ray would wait for ever.
    """
    wanted = config.gpus_per_trial
    gpus_per_trial = float(gpus > 0) if wanted is None else wanted
    if config.cpus_per_trial > cpus:
        raise ConfigError(
            f"--cpus-per-trial: {config.cpus_per_trial} asked for, but {who} {cpus} cores"
        )
    if gpus_per_trial > gpus:
        raise ConfigError(f"--gpus-per-trial: {gpus_per_trial:g} asked for, but {who} {gpus} GPUs")
    workers = cpus // config.cpus_per_trial
    if gpus_per_trial:
        workers = min(workers, int(gpus / gpus_per_trial))
    return Resources(
        config.cpus_per_trial, gpus_per_trial, min(workers, config.concurrency or workers)
    )


def private_token() -> None:
    """Make sure that Ray's token exists and that its owner alone can read it.

    Ray would generate it readable by everybody.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = token_file()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not path.is_file():
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
    path.chmod(0o600)
