"""The command `tuning.launch`: from its flags to a checked configuration, and on to the run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from results import files
from results.sentences import verdict_json
from results.store import write_text
from trainables.command import importing, with_flags
from trainables.errors import InputError
from tuning.cluster.address import job_address
from tuning.cluster.connection import check_reachable, run_storage
from tuning.cluster.jobs import submit_run
from tuning.cluster.mirror import Mirror
from tuning.config import RESUMABLE, RunConfig, flag, make_config, read_yaml, to_yaml
from tuning.config.command import python_command
from tuning.errors import ConfigError
from tuning.monitoring.progress import Reporter
from tuning.run.dry_run import describe_plan
from tuning.run.folder import RunFolder
from tuning.run.manifest import read_manifest
from tuning.setting.classifier import check_classifiers
from tuning.setting.fit import Fit, report_fit
from tuning.setting.setting import Setting, make_settings
from tuning.study.database import open_database


def start(
    flags: Mapping[str, Any],
    *,
    config_file: Path | None,
    resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    detach: bool,
) -> Path | None:
    """Carry out one command line; returns the run folder, if there is one on this machine.

    Raises:
        RunError: with the message and the exit code for the user.
    """
    given = {**(read_yaml(config_file) if config_file else {}), **flags}
    address = job_address(given.get("cluster"), detach=detach)
    if address is not None and not dry_run:
        # The inputs of the run may exist only on the cluster, so the job checks them there.
        if resume and "name" not in given:
            raise ConfigError("--name: is needed to resume a run as a job")
        config = make_config({"name": _dated(), **given, "cluster": address})
        submit_run(config, resume=resume, as_json=as_json, quiet=quiet, detach=detach)
        return None
    try:
        config = _resumed(given) if resume else _new(given)
        before = _content(config) if resume else None
        settings = make_settings(config)
        fits = check_classifiers(config, settings)
        check_reachable(config)
        if dry_run:
            _introduce(config, settings, fits, quiet)
            describe_plan(config, settings, Reporter(quiet), as_json)
            return None
        _run(config, before, settings, fits, as_json, quiet)
        return config.run_folder
    except InputError as error:
        raise ConfigError(with_flags(error)) from error


def _content(config: RunConfig) -> bytes | None:
    """What the configuration file of the run holds, if there is one."""
    path = RunFolder(config.run_folder).config
    return path.read_bytes() if path.is_file() else None


def _run(
    config: RunConfig,
    before: bytes | None,
    settings: list[Setting],
    fits: Mapping[str, Fit],
    as_json: bool,
    quiet: bool,
) -> None:
    # Imports Ray, which must not happen before `check_reachable`.
    with importing():
        from tuning.run.pipeline import carry_out
        from tuning.run.stages import search_and_certify

    if config.ledger is not None:
        # Before Ray is started and anything is written.
        open_database(config.ledger)
    folder = RunFolder(config.run_folder)
    with folder.locked():
        if _content(config) != before:
            raise ConfigError(
                f"--name: another launcher has worked on {folder.path} since this one started; "
                "go on from what it did with --resume, or pass a different --name"
            )
        # Refused before the configuration is replaced, which the manifest has the hash of.
        read_manifest(folder.manifest)
        _introduce(config, settings, fits, quiet)
        write_text(folder.config, to_yaml(config))
        stages = partial(search_and_certify, settings, fits, folder)
        resumed = ("--resume", "--out", config.out, "--name", config.name)
        go_on = python_command("-m", "tuning.launch", *resumed)
        result = carry_out(stages, config, folder, go_on, quiet=quiet)
    if as_json:
        verdicts = [verdict_json(verdict) for verdict in result.verdicts.values()]
        places = {"run": str(folder.path), "report": str(folder.report)}
        said = {**places, "verdicts": verdicts, "summary": result.summary}
        print(json.dumps(said), flush=True)


def _introduce(
    config: RunConfig, settings: list[Setting], fits: Mapping[str, Fit], quiet: bool
) -> None:
    """Say what the user should know of classifiers and images before anything runs."""
    reporter = Reporter(quiet)
    for setting in settings:
        if (found := len(setting.test.indices)) < config.certify_images:
            reporter.say(
                f"{setting.name}: {found} images will be certified, not {config.certify_images}: "
                "there are no more for testing"
            )
        if setting.name in fits:
            report_fit(setting.name, fits[setting.name], reporter)


def _dated() -> str:
    return datetime.now().strftime("%Y-%m-%d_%H-%M-%S")


def _new(given: Mapping[str, Any]) -> RunConfig:
    """The configuration of a new run."""
    config = make_config({"name": _dated(), **given})
    if there := _existing(config):
        raise ConfigError(
            f"--name: {there} exists already; pass --resume to continue it, or a different --name"
        )
    return config


def _existing(config: RunConfig) -> str:
    """The path of an existing run of this name; empty if there is none."""
    folder = RunFolder(config.run_folder)
    if folder.occupied:
        return str(folder.path)
    if config.storage is not None:
        storage = run_storage(config)
        if Mirror(folder.path, storage).exists:
            return storage.folder
    return ""


def _resumed(given: Mapping[str, Any]) -> RunConfig:
    """The configuration of an earlier run, with those `given` flags that may change."""
    out, name = Path(given.get("out", "runs")), given.get("name")
    if name is not None:
        _fetch(out, name, given.get("storage"))
    folder = _folder_to_resume(out, name)
    stored = make_config(read_yaml(folder.config))
    config = make_config({**stored.model_dump(), "name": folder.path.name, **given})
    elsewhere = [flag(field) for field in ("storage", "ledger") if getattr(stored, field)]
    if elsewhere and config.name != stored.name:
        raise ConfigError(
            f"--name: {folder.path} was renamed, but {elsewhere[0]} knows the run as "
            f"{stored.name}; name the folder so again"
        )
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


def _fetch(out: Path, name: str, storage: object) -> None:
    """Fetch a run from its storage, if a different host has worked on it since this one."""
    folder = RunFolder(out / name)
    if storage is None and folder.config.is_file():
        storage = read_yaml(folder.config).get("storage")
    if storage is not None:
        config = make_config({"out": out, "name": name, "storage": storage})
        folder.fetch(run_storage(config))


def _folder_to_resume(out: Path, name: str | None) -> RunFolder:
    """The run of this name, or the latest one."""
    if name is not None:
        folder = RunFolder(out / name)
        if not folder.config.is_file():
            raise ConfigError(
                f"--resume: {folder.path} is not a run folder; check --out and --name"
            )
        return folder
    runs = sorted(out.glob(f"*/{files.CONFIG}"), key=lambda path: path.stat().st_mtime)
    if not runs:
        raise ConfigError(f"--resume: there is no run in {out}; check --out, or omit --resume")
    return RunFolder(runs[-1].parent)
