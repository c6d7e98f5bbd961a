"""A run as a job of a Ray cluster that is reached through its dashboard."""

from __future__ import annotations

import asyncio
import hashlib
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from tuning.address import check_dashboard
from tuning.cluster import PACKAGES, run_storage
from tuning.config import CONFIG, RunConfig
from tuning.errors import ConfigError, JobEnded
from tuning.mirror import Mirror

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# Fields that may name something on this machine, which then travels with the job.
INPUTS = ("classifier", "weights", "init_denoiser", "space", "data_dir")
# Ray takes half a gigabyte; more belongs on the cluster's own disks.
MOST_BYTES = 200_000_000
RUNNING = ("PENDING", "RUNNING")


def submit(config: RunConfig, *, resume: bool, as_json: bool, detach: bool) -> None:
    """Run `config` as a job, and follow it to its end unless `detach`.

    The same run submitted twice is one job. Results come back to the run folder, if this machine
    reaches the storage.

    Raises:
        ConfigError: when the cluster refuses the job, or is not reached.
        JobEnded: when the job fails, with its exit code.
    """
    assert config.cluster is not None
    if config.storage is None:
        raise ConfigError(
            "--storage: the results of a submitted run would stay on the cluster's head; pass a "
            "folder or bucket that its hosts share"
        )
    client = _connect(config.cluster)
    with tempfile.TemporaryDirectory() as folder:
        described = _pack(config, Path(folder))
        job = _submission(client, config.name, described, resume)
        if job is None:
            job = _start(client, config, Path(folder), described, resume, as_json)
    print(f"job: {job}", flush=True)
    if detach:
        return
    _follow(client, job)
    _fetch(config)


def attach(cluster: str, job: str) -> None:
    """Follow the job `job` to its end.

    Raises:
        ConfigError: when the cluster is not reached, or has no such job.
        JobEnded: when the job fails, with its exit code.
    """
    client = _connect(cluster)
    if all(known.submission_id != job for known in client.list_jobs()):
        raise ConfigError(f"--attach: {cluster} knows no job {job!r}")
    _follow(client, job)


def _connect(cluster: str) -> JobSubmissionClient:
    check_dashboard(cluster)
    # Not before: Ray reads then whether there is a token.
    from ray.job_submission import JobSubmissionClient

    return JobSubmissionClient(cluster)


def _pack(config: RunConfig, folder: Path) -> str:
    """Put all that the job needs into `folder`; returns its configuration as YAML."""
    for package in PACKAGES:
        source = Path(package.__file__ or "").parent
        shutil.copytree(
            source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", ".*")
        )
    # What was not given, a resumed run knows better than we.
    given = config.model_dump(mode="json", exclude_unset=True, exclude={"cluster", "out"})
    # What is not here is on the cluster, or no file.
    here = {f: Path(given[f]) for f in INPUTS if given.get(f) and Path(given[f]).exists()}
    values = given | {field: _packed(path, folder, field) for field, path in here.items()}
    described = yaml.safe_dump(values, sort_keys=False)
    (folder / CONFIG).write_text(described)
    return described


def _packed(path: Path, folder: Path, field: str) -> str:
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    size = sum(file.stat().st_size for file in files)
    if size > MOST_BYTES:
        raise ConfigError(
            f"--{field.replace('_', '-')}: {path} has {size / 1e6:.0f} MB, too much to travel with "
            "a job; put it on the cluster's disks and pass its path there"
        )
    # Named by its content, so that a resumed run finds it where it was.
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    name = f"inputs/{digest.hexdigest()[:12]}-{path.name}"
    target = folder / name
    if not target.exists():
        target.parent.mkdir(exist_ok=True)
        shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
    return name


def _submission(client: JobSubmissionClient, name: str, described: str, resume: bool) -> str | None:
    """The job that this submission is already; None if there is none."""
    jobs = _jobs(client, name)
    if not jobs:
        return None
    latest = jobs[-1]
    same = latest.metadata["digest"] == _digest(described)
    if latest.status in RUNNING and (same or resume):
        return str(latest.submission_id)
    if latest.status in RUNNING:
        raise ConfigError(
            f"--name: job {latest.submission_id} runs {name} with another configuration; wait for "
            "it, or pass another name"
        )
    if resume:
        return None
    if same:
        return str(latest.submission_id)
    raise ConfigError(
        f"--name: job {latest.submission_id} ran {name} with another configuration; pass --resume "
        "to continue it, or another --name"
    )


def _start(
    client: JobSubmissionClient,
    config: RunConfig,
    folder: Path,
    described: str,
    resume: bool,
    as_json: bool,
) -> str:
    flags = ["--cluster", "--config", CONFIG, "--name", config.name]
    flags += ["--resume"] * resume + ["--json"] * as_json
    number = len(_jobs(client, config.name)) + 1
    job = f"decrop-{config.name}" + (f"-{number}" if number > 1 else "")
    try:
        client.submit_job(
            entrypoint=shlex.join(["python", "-m", "tuning.launch", *flags]),
            submission_id=job,
            runtime_env={"working_dir": str(folder)},
            metadata={"run": config.name, "number": str(number), "digest": _digest(described)},
        )
    except RuntimeError as error:
        # Somebody else submitted it a moment ago.
        if "already exists" not in str(error):
            raise ConfigError(f"--cluster: the job is refused: {_line(error)}") from error
    return job


def _jobs(client: JobSubmissionClient, name: str) -> list[Any]:
    """The submissions of a run, the latest last."""
    found = [job for job in client.list_jobs() if (job.metadata or {}).get("run") == name]
    return sorted(found, key=lambda job: int(job.metadata["number"]))


def _follow(client: JobSubmissionClient, job: str) -> None:
    """Print the log of a job to its end.

    Raises:
        JobEnded: unless the job succeeds.
    """
    go_on = f"--attach {job} follows it again, and `ray job stop {job}` ends it"
    try:
        asyncio.run(_print_log(client, job))
    except KeyboardInterrupt:
        raise JobEnded(f"the job goes on; {go_on}", 130) from None
    except OSError as error:
        raise JobEnded(f"the cluster does not answer: {_line(error)}; {go_on}", 4) from error
    info = client.get_job_info(job)
    if info.status == "SUCCEEDED":
        return
    code = info.driver_exit_code
    if code in (2, 3, 4, 130):
        raise JobEnded(f"job {job} ended with exit code {code}, as it says above", code)
    raise JobEnded(f"job {job}: {_line(info.message)}; go on with --resume", 4)


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    printed = 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(job):
                # After a break the log comes from its beginning.
                new = text[max(0, printed - seen) :]
                seen += len(text)
                printed = max(printed, seen)
                print(new, end="", flush=True)
        except RuntimeError:
            await asyncio.sleep(1)
        if client.get_job_status(job) not in RUNNING:
            return


def _fetch(config: RunConfig) -> None:
    """Bring the results here, if the storage can be reached from here."""
    assert config.storage is not None
    if config.storage.startswith("/") and not Path(config.storage).is_dir():
        return
    try:
        Mirror(config.run_folder, run_storage(config)).fetch()
    except (ConfigError, OSError):
        print(f"results: {config.storage}/{config.name}")
        return
    print(f"results: {config.run_folder}")


def _digest(described: str) -> str:
    return hashlib.sha256(described.encode()).hexdigest()


def _line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "it does not say why")
