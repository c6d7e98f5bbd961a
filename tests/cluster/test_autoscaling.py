"""A cluster that starts hosts when they are asked for: Ray's autoscaler, with pretended machines.

The machines are Ray's own processes on this one, in a network namespace apart.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import (
    FAKE_HEAD_NODE_ID,
    FakeMultiNodeProvider,
)

from tests.cluster.conftest import clean_environment
from tests.support.host_scripts import WAIT_FOR_NODES
from tests.support.hosts import PORT, RAY, Host, ip
from tests.support.runs import POINTS, TINY, ended, tables

WORKERS = 2
COMMANDS = ["initialization_commands", "setup_commands", "head_setup_commands"]
COMMANDS += ["worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"]


@pytest.fixture
def head(namespaces: None, tmp_path: Path) -> Iterator[Host]:
    """The only host at first, which runs no trials itself."""
    address = f"10.78.{os.getpid() % 200 + 20}.1"
    config = {
        "cluster_name": "pretended",
        "max_workers": WORKERS,
        "provider": {
            # Named as a provider of somebody else's: the wheel lacks the defaults of this one.
            "type": "external",
            "module": f"{FakeMultiNodeProvider.__module__}.{FakeMultiNodeProvider.__name__}",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": FAKE_HEAD_NODE_ID,
            "gcs_address": f"{address}:{PORT}",
        },
        "head_node_type": "ray.head.default",
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "worker": {
                "resources": {"CPU": 1, "object_store_memory": 200_000_000},
                "node_config": {},
                "min_workers": 0,
                "max_workers": WORKERS,
            },
        },
        "auth": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        **{key: [] for key in COMMANDS},
        "idle_timeout_minutes": 5,
    }
    autoscaling = tmp_path / "autoscaling.yaml"
    autoscaling.write_text(json.dumps(config))
    environment = clean_environment(tmp_path) | {
        "RAY_FAKE_CLUSTER": "1",
        "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        "RAY_enable_autoscaler_v2": "1",
        "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": "0123456789abcdef" * 4,
    }
    host = Host(f"decrop{os.getpid()}c", address, environment)
    host.private = [Path("/tmp/ray")]
    ip("netns", "add", host.name)
    try:
        ip("-n", host.name, "addr", "add", f"{address}/24", "dev", "lo")
        ip("-n", host.name, "link", "set", "lo", "up")
        # By its own address a host is known by what it would reach others with.
        ip("-n", host.name, "route", "add", "default", "dev", "lo", "src", address)
        host.start(
            RAY, "start", "--head", "--block", "--num-cpus=0",
            f"--autoscaling-config={autoscaling}", f"--node-ip-address={address}",
            f"--port={PORT}", "--include-dashboard=false", "--object-store-memory=200000000",
            log=tmp_path / "head.log",
            environment={"RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID},
        )  # fmt: skip
        yield host
    finally:
        host.kill()
        ip("netns", "del", host.name)


def test_waiting_trials_start_hosts(head: Host, tmp_path: Path) -> None:
    cluster = f"{head.address}:{PORT}"
    wait = [sys.executable, "-c", WAIT_FOR_NODES, cluster]
    assert head.start(*wait, "1").wait() == 0
    process = head.start(
        sys.executable, "-m", "tuning.launch", f"--out={tmp_path}", "--name=grows",
        f"--cluster={cluster}", "--autoscaling", f"--concurrency={WORKERS}", *TINY,
    )  # fmt: skip
    ended(process)
    (trials,) = tables(tmp_path / "grows", ["trials"])
    assert sorted(row["root"] for row in trials) == list(range(POINTS))
    # Both have been started, and wait for more.
    assert head.start(*wait, f"{1 + WORKERS}").wait() == 0
