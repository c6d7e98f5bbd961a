"""One cluster of two hosts for all tests of this folder."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.hosts import TwoHosts, wait_for_second
from tests.support.runs import HANGING, TINY, Finished

# Trials that last long against the start of a worker.
SMALL = [*TINY, "--set=epochs=75", "--confirm-folds=2", "--certify-images=16", "--n=3000"]
SMALL += ["--confirm-top=1", "--procedure=fixed"]


@pytest.fixture(scope="session")
def namespaces() -> None:
    """Network namespaces; skips where there are none to be had."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")


def clean_environment(root: Path) -> dict[str, str]:
    """Without settings of another cluster; what is cached goes below `root`."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    return inherited | {
        "RAY_USAGE_STATS_ENABLED": "0",
        "XDG_CACHE_HOME": str(root / "cache"),
        # Jobs start `python`.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }


@pytest.fixture(scope="session")
def hosts(namespaces: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    """The hosts, with the cluster up on both."""
    root = tmp_path_factory.mktemp("cluster")
    (root / "runs").mkdir()
    two = TwoHosts(root / "runs", clean_environment(root))
    try:
        two.build()
        two.start_head()
        two.start_second()
        two.wait_for_nodes(2)
        yield two
    finally:
        two.close()


@dataclass(frozen=True)
class Watched:
    """A run, and what could be seen of it while it lasted, as `watcher` prints it."""

    run: Finished
    seen: dict[str, Any]


@pytest.fixture(scope="session")
def watched(hosts: TwoHosts) -> Watched:
    """A run on both hosts, through a bucket, to which nothing happens."""
    name = "undisturbed"
    watcher = hosts.first.start(sys.executable, "-m", "tests.support.watcher", hosts.first.address)
    process = hosts.launch(f"--name={name}", f"--storage={hosts.storage}", *SMALL)
    wait_for_second(hosts, process)
    run = hosts.finish(process, name)
    watcher.terminate()
    out, err = watcher.communicate(timeout=HANGING)
    assert watcher.returncode == 0, err
    return Watched(run, json.loads(out))


@pytest.fixture(scope="session")
def undisturbed(watched: Watched) -> Finished:
    """That run."""
    return watched.run
