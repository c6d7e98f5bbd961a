"""From the flags of one invocation to a run: configuration, checks, folder, lock."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import filelock

from results.store import write_text
from results.terminal import summary_tables
from trainables.errors import InputError
from tuning.cluster.address import dashboard_address
from tuning.cluster.connection import check_reachable, run_storage
from tuning.cluster.jobs import submit_run
from tuning.cluster.mirror import Mirror
from tuning.config import CONFIG, RESUMABLE, RunConfig, flag, make_config, read_yaml, to_yaml
from tuning.errors import ConfigError
from tuning.monitoring.progress import Reporter, chatter_to
from tuning.run.dry_run import describe_plan
from tuning.setting.classifier import check_classifiers
from tuning.setting.setting import Setting, make_settings
from tuning.study.database import open_database

LOCK = ".lock"


def start(
    flags: Mapping[str, Any],
    *,
    config_file: Path | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    detach: bool,
) -> None:
    """Do what one command line asks for.

    Raises:
        RunError: with the message and the exit code for the user.
    """
    given = {**(read_yaml(config_file) if config_file else {}), **flags}
    address = dashboard_address(given.get("cluster"))
    if address is not None and not dry_run:
        # What the run needs may be on the cluster alone, which then checks it.
        if resume and "name" not in given:
            raise ConfigError("--name: which run is the job to resume?")
        config = make_config({"name": _dated(), **given, "cluster": address})
        submit_run(config, resume=resume, as_json=as_json, detach=detach)
        return
    if detach:
        raise ConfigError("--detach: needs the address of a dashboard, --cluster http://HOST:8265")
    try:
        config = _resolve(given, resume)
        settings = make_settings(config)
        check_classifiers(config, settings)
        check_reachable(config)
        if dry_run:
            describe_plan(config, settings, Reporter())
        else:
            _run(config, settings, as_json)
    except InputError as error:
        raise ConfigError(str(error)) from error


def _run(config: RunConfig, settings: list[Setting], as_json: bool) -> None:
    # Imports Ray, which must not happen before `check_reachable`.
    from tuning.run.run import Run

    if config.ledger is not None:
        # Before Ray is started and anything is written.
        open_database(config.ledger)
    with _locked_folder(config):
        write_text(config.run_folder / CONFIG, to_yaml(config))
        with chatter_to(config.run_folder / "ray.log") as reporter:
            reporter.say(f"run folder: {config.run_folder}")
            summary = Run(config, settings, reporter).execute()
            reporter.out.print(summary_tables(summary, config.objective))
            report = config.run_folder / "report.html"
            reporter.out.print(f"report: {report}", markup=False, highlight=False)
        if as_json:
            result = {"run": str(config.run_folder), "report": str(report), "summary": summary}
            print(json.dumps(result), flush=True)


def _dated() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _resolve(given: Mapping[str, Any], resume: bool) -> RunConfig:
    """What is given over, when resuming, the run's own configuration."""
    if not resume:
        config = make_config({"name": _dated(), **given})
        for there in _existing(config):
            raise ConfigError(
                f"--name: {there} exists already; pass --resume to continue it, or another --name"
            )
        return config
    out, name = Path(given.get("out", "runs")), given.get("name")
    if name is not None:
        _fetch(out, name, given.get("storage"))
    folder = _folder_to_resume(out, name)
    stored = make_config(read_yaml(folder / CONFIG))
    config = make_config({**stored.model_dump(), "name": folder.name, **given})
    for field in RunConfig.model_fields:
        was, now = getattr(stored, field), getattr(config, field)
        if was != now and field not in RESUMABLE:
            raise ConfigError(
                f"{flag(field)}: the run to resume has {was!r}, not {now!r}; leave the flag out, "
                "or start a new run"
            )
    if config.trials < stored.trials:
        raise ConfigError(
            f"--trials: the run has {stored.trials} trials already; pass at least as many"
        )
    return config


def _existing(config: RunConfig) -> Iterator[str]:
    """Where there is a run of this name already."""
    if _holds_something(config.run_folder):
        yield str(config.run_folder)
    if config.storage is not None:
        storage = run_storage(config)
        if Mirror(config.run_folder, storage).exists:
            yield storage.folder


def _fetch(out: Path, name: str, storage: object) -> None:
    """Bring a run here from its storage, if another host worked on it since we did."""
    stored = out / name / CONFIG
    if storage is None and stored.is_file():
        storage = read_yaml(stored).get("storage")
    if storage is not None:
        config = make_config({"out": out, "name": name, "storage": storage})
        if stored.is_file():
            with _locked_folder(config):
                """Nobody else works on what is about to be replaced."""
        Mirror(config.run_folder, run_storage(config)).fetch()


def _folder_to_resume(out: Path, name: str | None) -> Path:
    if name is not None:
        if not (out / name / CONFIG).is_file():
            raise ConfigError(f"--resume: {out / name} holds no run; check --out and --name")
        return out / name
    runs = sorted(out.glob(f"*/{CONFIG}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ConfigError(f"--resume: {out} holds no run; check --out, or leave --resume out")
    return runs[-1].parent


def _holds_something(folder: Path) -> bool:
    # A start that was interrupted at once leaves its lock, which is in nobody's way.
    if not folder.is_dir():
        return folder.exists()
    return any(path.name != LOCK for path in folder.iterdir())


@contextmanager
def _locked_folder(config: RunConfig) -> Iterator[None]:
    """Create the run folder and keep other launchers out of it."""
    folder = config.run_folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / LOCK)
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ConfigError(f"--name: another launcher is working on {folder}") from error
    except OSError as error:
        raise ConfigError(f"--out: {folder} cannot be written: {error.strerror}") from error
    with lock:
        new = not _holds_something(folder)
        try:
            yield
        except ConfigError:
            # Nothing half-written: a run that never ended a trial leaves no folder behind. The
            # trials of one that is resumed may be in another database.
            if new and not any(folder.glob("*/trials.parquet")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
