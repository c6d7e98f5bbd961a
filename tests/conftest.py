"""How several processes share the suite; real runs on a real Ray, which tests share."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pytest
import ray
from xdist.scheduler import LoadScopeScheduling

from tests.support.runs import TINY, Finished, Workplace, free_port, wait_for_port


def scope(nodeid: str) -> str:
    """Tests of one scope run in one process: those of a file, or all of the reference run."""
    file = PurePath(nodeid.partition("::")[0])
    return "" if file.parent.name == "runs" else str(file)


class ByFile(LoadScopeScheduling):
    """Gives each process a scope at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest scope first, so that the others fill the time beside it."""
    items.sort(key=lambda item: scope(item.nodeid) != "")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Give the processes whole files."""
    return ByFile(config, log)


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Where the runs of this session lie."""
    root = tmp_path_factory.mktemp("runs")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(root / "home"),
        "XDG_CACHE_HOME": str(root / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    return Workplace(root, environment)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two workers in this process."""
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def foreign_cluster(workplace: Workplace) -> Iterator[str]:
    """A Ray cluster with token authentication that somebody else started: its address."""
    token = workplace.folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    environment = workplace.environment | {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
    }
    port = free_port()
    arguments = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    arguments += ["--include-dashboard=false", "--object-store-memory=200000000"]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *arguments],
        cwd=workplace.folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_port(port)
    yield f"127.0.0.1:{port}"
    # `ray start --block` ends its own processes, and no other Ray's, when it is told to stop.
    process.terminate()
    process.wait(timeout=300)


@pytest.fixture(scope="session")
def cluster_environment(workplace: Workplace, foreign_cluster: str) -> Workplace:
    """The workplace of a user who knows the foreign cluster's address and token."""
    known = {"RAY_ADDRESS": foreign_cluster, "RAY_AUTH_TOKEN_PATH": str(workplace.folder / "token")}
    return Workplace(workplace.folder, workplace.environment | known)


@pytest.fixture(scope="session")
def reference_run(cluster_environment: Workplace) -> Finished:
    """An undisturbed run on two local workers, started where RAY_ADDRESS names a cluster."""
    return cluster_environment.run("--name=reference", "--concurrency=2", "--json", *TINY)
