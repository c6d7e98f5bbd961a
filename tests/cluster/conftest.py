"""One cluster of two hosts for all tests of this folder."""

import os
import shutil
from collections.abc import Iterator

import pytest

from tests.cluster.hosts import TwoHosts
from tests.tuning.runs import TINY, Finished

# Trials that last long against the start of a worker.
SMALL = [*TINY, "--set=epochs=60", "--certify-images=24", "--n=10000", "--procedure=fixed"]


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoHosts]:
    """The hosts, with the cluster up on both."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need root and iproute2")
    root = tmp_path_factory.mktemp("cluster")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "AWS_"))}
    environment |= {"RAY_USAGE_STATS_ENABLED": "0", "XDG_CACHE_HOME": str(root / "cache")}
    (root / "runs").mkdir()
    two = TwoHosts(root / "runs", environment)
    try:
        two.build()
        two.start_head()
        two.start_second()
        two.wait_for_nodes(2)
        yield two
    finally:
        two.close()


@pytest.fixture(scope="session")
def undisturbed(hosts: TwoHosts) -> Finished:
    """A run on both hosts, through a bucket, to which nothing happens."""
    name = "undisturbed"
    process = hosts.launch(f"--name={name}", f"--storage={hosts.storage}", *SMALL)
    return hosts.finish(process, name)
