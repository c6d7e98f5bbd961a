"""Jobs: a Ray cluster does the work, and is reached only through its dashboard."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any

from results import files
from search_spaces.yaml_values import dump_yaml
from tuning.cluster.address import check_dashboard
from tuning.cluster.connection import PACKAGES, run_storage
from tuning.cluster.ending import ENDING
from tuning.cluster.mirror import Mirror
from tuning.config import RunConfig
from tuning.errors import ConfigError, JobEnded

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# Flags that may name files on this machine, which are then sent with the job.
INPUTS = ("classifier", "weights", "init_denoiser", "space", "data_dir", "denoiser", "source")
# Files of a run that certifying it again does not need.
NOT_NEEDED = (
    ".*",
    files.TENSORBOARD,
    files.VOTES,
    files.LEDGER,
    files.REPORT,
    files.CERTIFIED,
)
# Ray accepts half a gigabyte; larger files belong on the cluster's own disks.
MAX_BYTES = 200_000_000
RUNNING = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class Package:
    """Everything that a job needs, in `folder`, and the command that it runs there.

    Packages for the same work have the same `digest`.
    """

    name: str
    folder: Path
    command: Sequence[str]
    digest: str


def submit_run(
    config: RunConfig, *, resume: bool, as_json: bool, quiet: bool, detach: bool
) -> None:
    """Run `config` as a job, and follow it to its end unless `detach`.

    Submitting the same run twice makes only one job. Results are fetched to the run folder, if this
    machine reaches the storage.

    Raises:
        ConfigError: when the cluster refuses the job, or cannot be reached.
        JobEnded: when the job fails, with its exit code.
    """
    # For flags that are not given here, a resumed run has its own values.
    given = config.model_dump(mode="json", exclude_unset=True, exclude={"cluster", "out"})
    with _packed(given) as (folder, values):
        (folder / files.CONFIG).write_text(dump_yaml(values))
        flags = ["--cluster", "--config", files.CONFIG, "--name", config.name]
        if resume:
            flags.append("--resume")
        if as_json:
            flags.append("--json")
        if quiet:
            flags.append("--quiet")
        command = ["python", "-m", "tuning.launch", *flags]
        package = Package(config.name, folder, command, _digest(values))
        _submit(config, package, again=lambda latest: resume, detach=detach)


def submit_certification(
    config: RunConfig, source: Path | None, flags: Mapping[str, Any], *, detach: bool
) -> None:
    """Run `tuning.certify` with `source` and `flags` as a job; see `submit_run`.

    `config` is made from the flags that are part of a configuration.
    """
    inputs = {"source": str(source)} if source is not None else {}
    with _packed({**flags, **inputs}) as (folder, values):
        path = [values.pop("source")] if source is not None else []
        passed = [
            f"--{field.replace('_', '-')}" + ("" if value is True else f"={value}")
            for field, value in values.items()
        ]
        command = ["python", "-m", "tuning.certify", *path, *passed, "--cluster=auto"]
        package = Package(config.name, folder, command, _digest([path, values]))
        # The same command continues what an earlier one has left.
        _submit(config, package, again=lambda latest: latest.status != "SUCCEEDED", detach=detach)


def attach(cluster: str, job: str) -> None:
    """Follow the job `job` to its end.

    Raises:
        ConfigError: when the cluster cannot be reached, or has no such job.
        JobEnded: when the job fails, with its exit code.
    """
    client = _connect(cluster)
    if all(known.submission_id != job for known in client.list_jobs()):
        raise ConfigError(f"--attach: {cluster} has no job {job!r}")
    _follow(client, job)


def _submit(
    config: RunConfig, package: Package, *, again: Callable[[Any], bool], detach: bool
) -> None:
    """Start a job, or find it if it is running already, and follow it.

    `again` says whether to start another job, given the latest one of the same name.
    """
    assert config.cluster is not None
    if config.storage is None:
        raise ConfigError(
            "--storage: the results of a job would stay on the cluster's head; pass a folder or "
            "bucket that its hosts share"
        )
    client = _connect(config.cluster)
    job = _submission(client, package, again) or _start(client, package)
    print(f"job: {job}", flush=True)
    if not detach:
        _follow(client, job)
        _fetch(config)


def _connect(cluster: str) -> JobSubmissionClient:
    check_dashboard(cluster)
    # Imported only now: at import, Ray reads whether to use a token.
    from ray.job_submission import JobSubmissionClient

    # Ray's loggers would report every upload.
    logging.disable(logging.INFO)
    return JobSubmissionClient(cluster)


@contextmanager
def _packed(given: Mapping[str, Any]) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A folder with the code and inputs of a job, and `given` with the paths of inputs in it."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for package in PACKAGES:
            source = Path(package.__file__ or "").parent
            _copy(source, _files(source, "__pycache__"), folder / source.name)
        # Inputs that are not on this machine are on the cluster, or are not files.
        here = {f: Path(given[f]) for f in INPUTS if given.get(f) and Path(given[f]).exists()}
        yield folder, {**given, **{f: _input(path, folder, f) for f, path in here.items()}}


def _input(path: Path, folder: Path, field: str) -> str:
    if links := [each for each in path.rglob("*") if each.is_symlink() and each.is_dir()]:
        raise ConfigError(
            f"--{field.replace('_', '-')}: {links[0]} is a link to a folder, which is not sent "
            "with a job; put the folder in its place, or pass a path on the cluster's disks"
        )
    files = _files(path, *(NOT_NEEDED if field == "source" else ()))
    size = sum(file.stat().st_size for file in files)
    if size > MAX_BYTES:
        raise ConfigError(
            f"--{field.replace('_', '-')}: {path} has {size / 1e6:.0f} MB, too much to send with a "
            "job; put it on the cluster's disks and pass its path there"
        )
    # Named by its content, so that a resumed run finds it where it was.
    digest = hashlib.sha256()
    for file in files:
        digest.update(str(file.relative_to(path)).encode() + file.read_bytes())
    name = f"inputs/{digest.hexdigest()[:12]}-{path.name}"
    _copy(path, files, folder / name)
    return name


def _files(path: Path, *without: str) -> list[Path]:
    """A file, or all files below a folder in order, except where a pattern of `without` matches."""
    if path.is_file():
        return [path]
    found = sorted(file for file in path.rglob("*") if file.is_file())
    return [
        file
        for file in found
        if not any(fnmatch(part, w) for part in file.relative_to(path).parts for w in without)
    ]


def _copy(source: Path, files: Sequence[Path], target: Path) -> None:
    for file in files:
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)


def _submission(
    client: JobSubmissionClient, package: Package, again: Callable[[Any], bool]
) -> str | None:
    """The job that already does this work; None if one has to be started.

    Raises:
        ConfigError: when the latest job of this name does different work.
    """
    jobs = _jobs(client, package.name)
    if not jobs:
        return None
    latest = jobs[-1]
    runs = latest.status in RUNNING
    if not runs and again(latest):
        return None
    if latest.metadata["digest"] == package.digest:
        return str(latest.submission_id)
    raise ConfigError(
        f"--name: job {latest.submission_id} {'runs' if runs else 'ran'} {package.name} with "
        f"a different configuration; {'wait for it' if runs else 'pass --resume to continue it'}, "
        "or pass a different name"
    )


def _start(client: JobSubmissionClient, package: Package) -> str:
    number = len(_jobs(client, package.name)) + 1
    job = f"decrop-{package.name}" + (f"-{number}" if number > 1 else "")
    try:
        client.submit_job(
            entrypoint=shlex.join(package.command),
            submission_id=job,
            runtime_env={"working_dir": str(package.folder)},
            # `job_name` is what Ray's dashboard shows in its list.
            metadata={
                "job_name": package.name,
                "run": package.name,
                "number": str(number),
                "digest": package.digest,
            },
        )
    except RuntimeError as error:
        # It "already exists" if someone else submitted it a moment ago.
        if "already exists" not in str(error):
            raise ConfigError(f"--cluster: the job was refused: {_line(error)}") from error
    return job


def _jobs(client: JobSubmissionClient, name: str) -> list[Any]:
    """The jobs of a run, the latest last."""
    found = [job for job in client.list_jobs() if (job.metadata or {}).get("run") == name]
    return sorted(found, key=lambda job: int(job.metadata["number"]))


def _follow(client: JobSubmissionClient, job: str) -> None:
    """Print the log of a job until it ends.

    Raises:
        JobEnded: unless the job succeeds.
    """
    go_on = f"--attach {job} follows it again, and `ray job stop {job}` stops it"
    try:
        asyncio.run(_print_log(client, job))
        info = client.get_job_info(job)
    except KeyboardInterrupt:
        raise ENDING.error(f"the job continues; {go_on}") from None
    except OSError as error:
        raise JobEnded(f"the cluster does not answer: {_line(error)}; {go_on}", 4) from error
    if info.status == "SUCCEEDED":
        return
    code = info.driver_exit_code
    if code in (2, 3, 4, 130, 143, 129):
        raise JobEnded(f"job {job} ended with exit code {code}, as it says above", code)
    raise JobEnded(f"job {job}: {_line(info.message)}; continue with --resume", 4)


async def _print_log(client: JobSubmissionClient, job: str) -> None:
    printed = 0
    while True:
        seen = 0
        try:
            async for text in client.tail_job_logs(job):
                # After a broken connection the log is sent again from its beginning.
                new = text[max(0, printed - seen) :]
                seen += len(text)
                printed = max(printed, seen)
                print(new, end="", flush=True)
        except RuntimeError:
            await asyncio.sleep(1)
        if client.get_job_status(job) not in RUNNING:
            return


def _fetch(config: RunConfig) -> None:
    """Bring the results here, if this machine reaches the storage."""
    assert config.storage is not None
    there = f"results: {config.storage}"
    if config.storage.startswith("/") and not Path(config.storage).is_dir():
        print(there)
        return
    try:
        Mirror(config.run_folder, run_storage(config)).fetch()
    except ConfigError:
        print(there)
        return
    print(f"results: {config.run_folder}")


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _line(error: object) -> str:
    return next(iter(str(error).strip().splitlines()), "no reason given")
