"""The hosts of a cluster that is joined: what they offer, and whether they can take part."""

from __future__ import annotations

import socket
import time
from functools import lru_cache
from importlib.metadata import version
from typing import Any, NamedTuple

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tuning.cluster.resources import Node, Resources
from tuning.cluster.storage import Storage
from tuning.config import RunConfig
from tuning.errors import ConfigError

NAMESPACE = "decrop"
# The claim of a launcher that was killed is gone after so many seconds.
CLAIM_SECONDS = 15.0
ANSWER_SECONDS = 15.0
REFRESH_SECONDS = 5.0
# More tasks than this per worker would only wait in Ray's queue.
QUEUED_PER_WORKER = 3
PROBE = ".probe"
# Another version would add numbers up in another order, if it can read the models at all.
SAME_EVERYWHERE = "torch"


class _Answer(NamedTuple):
    """What a host says: does it see the storage, and which version has it of what must agree?"""

    sees: bool
    found: str


def workers(resources: Resources) -> int:
    """How many workers to use now: those that fit when the run began, or more on later hosts."""
    if not resources.shared:
        return resources.concurrency
    if resources.limit is not None:
        return resources.limit
    present = _present_in(int(time.monotonic() / REFRESH_SECONDS))
    return max(resources.concurrency, sum(resources.workers_on(node) for node in present))


def in_flight(resources: Resources) -> int:
    """How many tasks to have submitted at a time."""
    # Only on a cluster could more of them run than the user allows.
    limited = resources.shared and resources.limit is not None
    return workers(resources) * (1 if limited else QUEUED_PER_WORKER)


def lost_hosts() -> dict[str, str]:
    """The hosts that the cluster has lost so far, by id: address and reason."""
    return {
        node["NodeID"]: f"{node['NodeManagerAddress']}: {node.get('DeathReasonMessage', '')}"
        for node in ray.nodes()
        if not node["Alive"]
    }


def claim(config: RunConfig, storage: Storage) -> object:
    """What keeps launchers on other hosts out of a run, until it or this process is gone.

    Raises:
        ConfigError: when one is at work on it.
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


def check_nodes(storage: Storage, *, stored: bool) -> None:
    """Make sure that every host sees the storage, and has the same libraries.

    Raises:
        ConfigError: naming the host that does not.
    """
    here = ray.get_runtime_context().get_node_id()
    others = {
        n["NodeID"]: n["NodeManagerAddress"]
        for n in ray.nodes()
        if n["Alive"] and n["NodeID"] != here
    }
    if not others:
        return
    storage.write(PROBE, b"")
    try:
        asked = {
            address: _answer.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
            ).remote(storage)
            for node, address in others.items()
        }
        for address, reference in asked.items():
            try:
                answer = ray.get(reference, timeout=ANSWER_SECONDS)
            except ray.exceptions.RayError as error:
                raise ConfigError(
                    f"--cluster: host {address} cannot run this project: "
                    f"{str(error).strip().splitlines()[-1]}"
                ) from error
            _check(address, answer, storage, stored)
    finally:
        storage.filesystem.delete_file(storage.path(PROBE))


def _check(address: str, answer: _Answer, storage: Storage, stored: bool) -> None:
    ours = version(SAME_EVERYWHERE)
    if answer.found != ours:
        raise ConfigError(
            f"--cluster: host {address} has {SAME_EVERYWHERE} {answer.found}, but "
            f"this one {ours}; install the versions of constraints.txt on both"
        )
    if not answer.sees:
        remedy = "check its credentials and mounts"
        raise ConfigError(
            f"--storage: host {address} does not see {storage.folder}; "
            f"{remedy if stored else 'pass a folder or bucket that all hosts share'}"
        )


@ray.remote(num_cpus=0, max_retries=0)
def _answer(storage: Storage) -> _Answer:
    try:
        storage.read(PROBE)
        sees = True
    except OSError:
        sees = False
    return _Answer(sees, version(SAME_EVERYWHERE))


class _Claim:
    """Its name says which run somebody is working on."""


def cluster_nodes() -> list[Node]:
    """The hosts that are there."""
    return [_node(node["Resources"]) for node in ray.nodes() if node["Alive"]]


@lru_cache(maxsize=1)
def _present_in(period: int) -> list[Node]:
    """The same, asked once in a `period`: with a thousand hosts it takes a while."""
    return cluster_nodes()


def _node(offered: Any) -> Node:
    return Node(int(offered.get("CPU", 0)), int(offered.get("GPU", 0)))
