"""How many workers fit on the machine or cluster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from trainables.worker import prepare_worker
from tuning.cluster.sharing import gpu_under_mps, workers_per_gpu
from tuning.config import RunConfig
from tuning.errors import ConfigError

# The label that Ray gives to every node with GPUs: their kind.
GPU_TYPE = "ray.io/accelerator-type"


class Host(NamedTuple):
    """What a machine offers; all of its GPUs are of one kind."""

    cpus: int
    gpus: int
    gpu_type: str = ""


@dataclass(frozen=True)
class Resources:
    """What a run uses: `concurrency` workers of `cpus_per_trial` cores each.

    They are on hosts with GPUs of `gpu_type` only, unless it is None. On a cluster (`shared`) there
    may be more workers later, unless the user set a `limit`.
    """

    cpus_per_trial: int
    gpus_per_trial: float
    concurrency: int
    shared: bool = False
    limit: int | None = None
    gpu_type: str | None = None

    @property
    def device(self) -> str:
        """The torch device of a worker."""
        return "cuda" if self.gpus_per_trial else "cpu"

    @property
    def devices_per_trial(self) -> float:
        """What a trial takes of the devices that a budget counts: GPUs, or cores without them."""
        return self.gpus_per_trial or float(self.cpus_per_trial)

    @property
    def selector(self) -> dict[str, str]:
        """The labels that a worker's host must have."""
        return {} if self.gpu_type is None else {GPU_TYPE: self.gpu_type}

    @property
    def of_task(self) -> dict[str, Any]:
        """What a Ray task that is a worker asks for."""
        return {
            "num_cpus": self.cpus_per_trial,
            "num_gpus": self.gpus_per_trial,
            "label_selector": self.selector,
        }

    def prepare_worker(self) -> torch.device:
        """Make this process a worker; returns its device."""
        return prepare_worker(self.device, self.cpus_per_trial, self.gpus_per_trial)

    def workers_on(self, host: Host) -> int:
        """How many workers fit on a machine."""
        if self.gpu_type not in (None, host.gpu_type):
            return 0
        workers = host.cpus // self.cpus_per_trial
        if not self.gpus_per_trial:
            return workers
        # A share below 1 must fit on a single GPU.
        share = self.gpus_per_trial
        most = host.gpus * int(1 / share) if share <= 1 else int(host.gpus / share)
        return min(workers, most)


def local_resources(config: RunConfig) -> Resources:
    """What a local run uses: every core, or every GPU, unless --concurrency says otherwise.

    More workers than cores pay where trials mostly wait, for example for a black box.

    Raises:
        ConfigError: when the machine has too few cores for one trial.
    """
    cores, wanted = len(os.sched_getaffinity(0)), config.concurrency
    if wanted is not None and config.cpus_per_trial <= cores:
        cores = max(cores, wanted * config.cpus_per_trial)
    machine = Host(cores, torch.cuda.device_count())
    if config.gpus_per_trial is None and machine.gpus:
        workers = machine.cpus // config.cpus_per_trial
        most = min(workers, wanted or workers) // machine.gpus
        sharing = workers_per_gpu(gpu_under_mps(), most, config.precision)
        config = config.model_copy(update={"gpus_per_trial": 1 / sharing})
    return fit_resources(config, [machine], "this machine")


def requested_resources(config: RunConfig) -> Resources:
    """What a run requests from a cluster that adds hosts: --concurrency, whatever is there now."""
    named = float(config.gpu_type is not None)
    return Resources(
        config.cpus_per_trial,
        named if config.gpus_per_trial is None else config.gpus_per_trial,
        concurrency=config.concurrency or 1,
        shared=True,
        limit=config.concurrency,
        gpu_type=config.gpu_type,
    )


def fit_resources(
    config: RunConfig, hosts: Sequence[Host], who: str, *, shared: bool = False
) -> Resources:
    """As many workers as fit; each has a GPU if there are any, unless the user says otherwise.

    A worker runs on one host, so it must fit on a single one. `who` names the hosts in messages.

    Raises:
        ConfigError: when not even one fits; Ray would wait for it forever.
    """
    if config.gpu_type is not None:
        hosts = _with_gpus(config.gpu_type, hosts, who)
    cpus = max((host.cpus for host in hosts), default=0)
    gpus = max((host.gpus for host in hosts), default=0)
    wanted = config.gpus_per_trial
    resources = Resources(
        config.cpus_per_trial,
        float(gpus > 0) if wanted is None else wanted,
        concurrency=0,
        shared=shared,
        limit=config.concurrency,
        gpu_type=config.gpu_type,
    )
    if config.cpus_per_trial > cpus:
        raise ConfigError(
            f"--cpus-per-trial: {config.cpus_per_trial} asked for, but {who} has {cpus} cores"
        )
    if resources.gpus_per_trial > gpus:
        raise ConfigError(
            f"--gpus-per-trial: {resources.gpus_per_trial:g} asked for, but {who} has {gpus} GPUs"
        )
    workers = sum(resources.workers_on(host) for host in hosts)
    if not workers:
        raise ConfigError(
            f"--gpus-per-trial: no machine of {who} has both {config.cpus_per_trial} cores and "
            f"{resources.gpus_per_trial:g} GPUs"
        )
    return replace(resources, concurrency=min(workers, config.concurrency or workers))


def _with_gpus(kind: str, hosts: Sequence[Host], who: str) -> list[Host]:
    """The hosts with GPUs of this kind."""
    found = [host for host in hosts if host.gpus and host.gpu_type == kind]
    if not found:
        kinds = sorted({host.gpu_type for host in hosts if host.gpus})
        raise ConfigError(
            f"--gpu-type: {kind} asked for, but {who} has {' or '.join(kinds) or 'no GPUs'}"
        )
    return found
