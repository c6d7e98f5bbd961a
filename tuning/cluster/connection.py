"""Where the work runs: a private local Ray, or an existing cluster.

Ray reads its settings when it is imported, which is why nothing here imports it before
`check_reachable` has set them.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import results
import search_spaces
import trainables
import tuning
from trainables.weights.sources import is_factory
from tuning.cluster.address import check_cluster, cluster_address, token_file
from tuning.cluster.ending import ENDING
from tuning.cluster.local_ray import local_ray, prepare
from tuning.cluster.resources import Resources, fit_resources, local_resources, requested_resources
from tuning.cluster.storage import Storage, local_storage, open_storage
from tuning.config import RunConfig
from tuning.errors import ConfigError

# The code that is sent to workers on other hosts; libraries must be installed there.
PACKAGES = (results, search_spaces, trainables, tuning)
# Set by Ray for the driver of a submitted job, whose workers have the code already.
IN_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
# How soon the driver checks whether a silent connection is still alive. When a network fails for
# half a minute, answers are lost, and Ray would wait five minutes for them.
KEEPALIVE, KEEPALIVE_MS = "RAY_grpc_client_keepalive_time_ms", "20000"


@dataclass(frozen=True)
class Cluster:
    """A connected Ray: its address, its dashboard or None, and the resources that the run uses.

    What must survive a host goes to `storage`: the run folder, or where --storage says. `claim`
    keeps other launchers out of the run for as long as it exists; `logs` are those of a local Ray.
    """

    address: str
    dashboard: str | None
    resources: Resources
    storage: Storage
    claim: object = None
    logs: Path | None = None


def check_reachable(config: RunConfig) -> None:
    """Make sure, before anything is written, that the machine or cluster can run this.

    Raises:
        ConfigError: when no cluster answers or it refuses us, or this machine is too small or its
            temporary folder too deep.
    """
    if config.cluster is None:
        local_resources(config)
        prepare()
    else:
        check_cluster(cluster_address(config))
        os.environ.setdefault(KEEPALIVE, KEEPALIVE_MS)


def run_storage(config: RunConfig) -> Storage:
    """Where --storage keeps the run, or the run folder.

    Raises:
        ConfigError: when the storage cannot be reached.
    """
    if config.storage is None:
        return local_storage(config.run_folder)
    return open_storage(config.storage) / config.name


@contextmanager
def connect(config: RunConfig) -> Iterator[Cluster]:
    """Start a local Ray, or join the cluster that --cluster names, and leave it at the end.

    A local run never attaches to a Ray that someone else started.

    Raises:
        ConfigError: when there is no cluster, it refuses the token, or it is too small.
        CertificationIncomplete: when a local Ray does not start.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    with _local(config) if config.cluster is None else _joined(config) as cluster:
        # Ray has replaced the handler of SIGTERM.
        ENDING.listen()
        yield cluster


@contextmanager
def _local(config: RunConfig) -> Iterator[Cluster]:
    resources = local_resources(config)
    private_token()
    with local_ray(resources, job_of(config)) as started:
        storage = run_storage(config)
        yield Cluster("local", started.dashboard, resources, storage, logs=started.logs)


@contextmanager
def _joined(config: RunConfig) -> Iterator[Cluster]:
    import ray

    try:
        yield _join(config)
    finally:
        # A shutdown would wait for a cluster that is gone.
        if not ENDING.lost:
            ray.shutdown()


def _join(config: RunConfig) -> Cluster:
    import ray
    from ray.job_config import JobConfig

    from tuning.cluster.hosts import present_hosts
    from tuning.cluster.joining import check_hosts, claim

    address, storage = cluster_address(config), run_storage(config)
    try:
        context = ray.init(
            address=address,
            log_to_driver=False,
            # A submitted job has the same, and keeps what it was submitted with.
            job_config=JobConfig(metadata=job_of(config)),
            runtime_env=None if IN_JOB in os.environ else _code(config),
        )
    except Exception as error:  # Ray raises a dozen unrelated types here
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(
            f"--cluster: the Ray cluster at {address} cannot be joined: {reason} "
            "(this must be a host of the cluster, with the same versions of Ray and Python; from "
            "elsewhere, pass the address of its dashboard, http://HOST:8265)"
        ) from error
    if config.autoscaling:
        resources = requested_resources(config)
    else:
        resources = fit_resources(config, present_hosts(), f"a host of {address}", shared=True)
    claimed = claim(config, storage)
    check_hosts(storage, named=config.storage is not None)
    return Cluster(address, context.dashboard_url, resources, storage, claimed)


def job_of(config: RunConfig) -> dict[str, str]:
    """What Ray's dashboard says about the run; `job_name` is in its list of jobs."""
    return {
        "job_name": config.name,
        "run folder": str(config.run_folder.absolute()),
        "data set": ", ".join(config.dataset),
        "shots": ", ".join(map(str, config.shots)),
        "objective": config.objective,
        "trials": str(config.trials),
    }


def _code(config: RunConfig) -> dict[str, object]:
    """What other hosts need besides the libraries: this project, and the user's classifier."""
    import ray

    if config.classifier and is_factory(config.classifier):
        # Its source may exist only on this host, so its code is pickled with its objects.
        module = sys.modules[config.classifier.partition(":")[0]]
        ray.cloudpickle.register_pickle_by_value(module)
    folders = [str(Path(package.__file__ or "").parent) for package in PACKAGES]
    return {"py_modules": folders, "excludes": ["__pycache__"]}


def token_place() -> str:
    """Where the token is that Ray's dashboard asks for, if there is one; it is never printed."""
    if os.environ.get("RAY_AUTH_TOKEN"):
        return "RAY_AUTH_TOKEN"
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or token_file())
    return str(path) if path.is_file() else ""


def private_token() -> None:
    """Make sure that Ray's token exists and that only its owner can read it.

    Ray would create it readable by everyone.
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
