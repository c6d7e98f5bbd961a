"""Which tier a test is in, and which tests come first; runs and clusters that tests share.

A test is in the tier of the most demanding fixture that it asks for: `cluster` (hosts in network
namespaces), `runs` (whole runs, a database server, a browser), or none, which is `make test`.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import ray
from filelock import FileLock
from hypothesis import HealthCheck, settings

from tests.support.postgres import Server, programs
from tests.support.runs import HANGING, TINY, Finished, Launcher, free_port, wait_for_port
from tuning.cluster.local_ray import (
    LOG_MONITOR,
    NICENESS,
    NICENESS_VALUE,
    PRELOAD,
    TRIES,
    prepare,
)

# On a busy machine an example takes as long as it takes.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# The tier of a test by the fixtures that it asks for, the most demanding first.
TIERS = {"namespaces": "cluster", "launcher": "runs", "postgres": "runs", "browser": "runs"}
# What takes longest begins first, so that the rest fills the time beside it.
SLOW = ("foreign_cluster", "postgres", "reference_run", "local_ray", "launcher")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test with its tier; files of slow tests come first."""
    for item in items:
        fixtures = asked(item)
        tier = next((tier for fixture, tier in TIERS.items() if fixture in fixtures), None)
        if tier is not None:
            item.add_marker(tier)
        if fixtures & {*TIERS, *SLOW}:
            # The processes of a Ray, or of several, start and end meanwhile.
            item.add_marker(pytest.mark.timeout(2 * HANGING))
    items.sort(key=lambda item: min(map(SLOW.index, asked(item) & {*SLOW}), default=len(SLOW)))


def asked(item: pytest.Item) -> set[str]:
    """The fixtures that a test asks for, by itself or through others."""
    return set(getattr(item, "fixturenames", ()))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all processes of this session have in common."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def _launcher(shared_folder: Path) -> Launcher:
    """What `launcher` is, for fixtures that start the run of a test in `make test`."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    environment |= {
        "HOME": str(shared_folder / "home"),
        "XDG_CACHE_HOME": str(shared_folder / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
        # Beside other runs, threads that wait for each other take most of the time.
        "OMP_NUM_THREADS": "1",
    }
    return Launcher(shared_folder, environment)


@pytest.fixture(scope="session")
def launcher(_launcher: Launcher) -> Launcher:
    """Starts whole runs."""
    return _launcher


@pytest.fixture(scope="session")
def reference_run(_launcher: Launcher) -> Finished:
    """An undisturbed run on two local workers, which all processes of the session share.

    RAY_ADDRESS names a cluster that does not answer: to use it would be an error.
    """
    elsewhere = _launcher.knowing(RAY_ADDRESS="127.0.0.1:1", RAY_AUTH_TOKEN="0" * 64)
    printed = _launcher.folder / "reference.json"
    with FileLock(printed.with_suffix(".lock")):
        if not printed.exists():
            run = elsewhere.run("--name=reference", *TINY, "--concurrency=2", "--json")
            run.save(printed)
        return Finished.saved(printed)


@pytest.fixture(scope="session")
def trained_classifier(reference_run: Finished) -> Path:
    """The checkpoint of the digits classifier that the reference run trained and cached."""
    (path,) = (reference_run.folder.parent / "cache" / "decrop").glob("digits-*.pt")
    return path


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """A Ray of two workers in this process, which are set up as those of a run are.

    But they import nothing beforehand: many tests start workers of their own, most of which do not
    need PyTorch.
    """
    os.environ[PRELOAD] = ""
    prepare()
    start = partial(ray.init, address="local", num_cpus=2, include_dashboard=False)
    for left in reversed(range(TRIES)):
        try:
            start(log_to_driver=False)
            break
        except Exception:
            # Others that start at the same time can take too long for it, as for a run.
            ray.shutdown()
            if not left:
                raise
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def foreign_cluster(launcher: Launcher) -> Iterator[str]:
    """A Ray cluster with token authentication that somebody else started: its address.

    It ends after the file, because an idle one takes a tenth of a core.
    """
    token = launcher.folder / "token"
    token.write_text("0123456789abcdef" * 4)
    token.chmod(0o600)
    port = free_port()
    arguments = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    arguments += ["--include-dashboard=false", "--object-store-memory=200000000"]
    own = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        # Beside other runs of the suite, workers that yield to everything would hardly run.
        NICENESS: NICENESS_VALUE,
        **LOG_MONITOR,
    }
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("ray")), *arguments],
        cwd=launcher.folder,
        env=launcher.environment | own,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for_port(port)
    yield f"127.0.0.1:{port}"
    # `ray start --block` ends its own processes, and no other Ray's, when it is told to stop.
    process.terminate()
    process.wait(timeout=HANGING)


@pytest.fixture(scope="module")
def cluster_launcher(launcher: Launcher, foreign_cluster: str) -> Launcher:
    """Starts runs as a user who knows the foreign cluster's address and token."""
    token = str(launcher.folder / "token")
    return launcher.knowing(RAY_ADDRESS=foreign_cluster, RAY_AUTH_TOKEN_PATH=token)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    """A PostgreSQL server that requires passwords."""
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed (Debian: postgresql)")
    server = Server.create()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def browser() -> str:
    """The program of a browser without a window."""
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("needs Chromium")
    return found
