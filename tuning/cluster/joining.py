"""Checks when a run joins a cluster: no other launcher works on the run, and all hosts are fit."""

from __future__ import annotations

import socket
import time
from importlib.metadata import version
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuning.cluster.storage import Storage
from tuning.config import RunConfig
from tuning.errors import ConfigError

NAMESPACE = "decrop"
# The claim of a launcher that was killed is gone after this many seconds.
CLAIM_SECONDS = 15.0
# How long to wait for a host's answer.
ANSWER_SECONDS = 15.0
# A file that every host must see.
PROBE = ".probe"
# A different version adds numbers up in a different order, if it can read the models at all.
SAME_EVERYWHERE = "torch"


class _Findings(NamedTuple):
    """What a host finds: whether it sees the storage, and its version of `SAME_EVERYWHERE`."""

    sees_storage: bool
    version: str


def claim(config: RunConfig, storage: Storage) -> object:
    """An object that keeps other launchers out of a run until it or this process is gone.

    Raises:
        ConfigError: when another launcher is working on the run.
    """
    where = storage.folder if config.storage else f"{socket.gethostname()}:{storage.folder}"
    actor: Any = ray.remote(num_cpus=0)(_Claim)
    deadline = time.monotonic() + CLAIM_SECONDS
    while True:
        try:
            return actor.options(name=where, namespace=NAMESPACE).remote()
        except ValueError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"--name: another launcher is working on {storage.folder}"
                ) from error
            time.sleep(0.5)


class _Claim:
    """An actor whose name says which run a launcher is working on."""


def check_hosts(storage: Storage, *, named: bool) -> None:
    """Make sure that every host sees the storage and has the same libraries.

    `named` says whether the user chose the storage with --storage.

    Raises:
        ConfigError: naming a host that does not.
    """
    here = ray.get_runtime_context().get_node_id()
    others = {
        node["NodeID"]: node["NodeManagerAddress"]
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] != here
    }
    if not others:
        return
    storage.write(PROBE, b"")
    try:
        # All hosts are asked before the first answer is awaited.
        asked = {address: _look_from(node, storage) for node, address in others.items()}
        for address, reference in asked.items():
            _check(address, _answer(address, reference), storage, named)
    finally:
        storage.filesystem.delete_file(storage.path(PROBE))


def _look_from(node: str, storage: Storage) -> ray.ObjectRef[_Findings]:
    strategy = NodeAffinitySchedulingStrategy(node, soft=False)
    reference: ray.ObjectRef[_Findings] = _look.options(scheduling_strategy=strategy).remote(
        storage
    )
    return reference


@ray.remote(num_cpus=0, max_retries=0)
def _look(storage: Storage) -> _Findings:
    try:
        storage.read(PROBE)
        sees = True
    except OSError:
        sees = False
    return _Findings(sees, version(SAME_EVERYWHERE))


def _answer(address: str, reference: ray.ObjectRef[_Findings]) -> _Findings:
    try:
        return ray.get(reference, timeout=ANSWER_SECONDS)
    except ray.exceptions.RayError as error:
        raise ConfigError(
            f"--cluster: host {address} cannot run this project: "
            f"{str(error).strip().splitlines()[-1]}"
        ) from error


def _check(address: str, findings: _Findings, storage: Storage, named: bool) -> None:
    ours = version(SAME_EVERYWHERE)
    if findings.version != ours:
        raise ConfigError(
            f"--cluster: host {address} has {SAME_EVERYWHERE} {findings.version}, but "
            f"this one has {ours}; install the versions of constraints.txt on both"
        )
    if not findings.sees_storage:
        remedy = "check its credentials and mounts"
        raise ConfigError(
            f"--storage: host {address} does not see {storage.folder}; "
            f"{remedy if named else 'pass a folder or bucket that all hosts share'}"
        )
