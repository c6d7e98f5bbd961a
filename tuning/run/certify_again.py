"""The command `tuning.certify`: certify the models of a run, an export or a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from results import files
from results.store import StoreError, write_text
from trainables.command import with_flags
from trainables.errors import InputError
from trainables.smoothing.export import CONFIG, read_export
from tuning.certification.subjects import (
    Subject,
    configuration_of_export,
    configuration_of_run,
    subject_of_export,
    subject_of_file,
    subjects_of_run,
)
from tuning.cluster.address import job_address
from tuning.cluster.connection import check_reachable, run_storage
from tuning.cluster.jobs import submit_certification
from tuning.config import RunConfig, make_config, to_yaml
from tuning.errors import ConfigError
from tuning.run.folder import RunFolder
from tuning.setting.classifier import check_classifier


def certify_again(
    source: Path | None,
    *,
    denoiser: Path | None,
    sigma: float | None,
    out: Path | None,
    flags: Mapping[str, Any],
    quiet: bool,
    detach: bool,
) -> Path | None:
    """Certify the models that the command line names, and write tables, logs and a report to `out`.

    Returns:
        The folder, unless they are certified by a job.

    Raises:
        RunError: with the message and the exit code for the user.
    """
    address = job_address(flags.get("cluster"), detach=detach)
    if address is not None:
        own = {"denoiser": denoiser and str(denoiser), "sigma": sigma}
        _submit(source, out, {**flags, **own, "cluster": address}, detach)
        return None
    out = out or (source / files.CERTIFIED if source and _is_run(source) else Path(files.CERTIFIED))
    try:
        config, subjects = _find(source, denoiser, sigma, out, flags)
        for subject in subjects:
            check_classifier(config, subject.dataset, subject.test.images)
        check_reachable(config)
    except (InputError, StoreError) as error:
        raise ConfigError(with_flags(error)) from error
    _run(config, subjects, RunFolder(out, flag="--out"), quiet)
    return out


def _find(
    source: Path | None,
    denoiser: Path | None,
    sigma: float | None,
    out: Path,
    flags: Mapping[str, Any],
) -> tuple[RunConfig, list[Subject]]:
    """The configuration of the certificates, and what they are to be about."""
    if source is not None and _is_run(source):
        for flag, value in (("--denoiser", denoiser), ("--sigma", sigma)):
            if value is not None:
                raise ConfigError(f"{flag}: a run has its own; leave it out")
        config = _config({**configuration_of_run(source), **flags}, out)
        return config, subjects_of_run(source, config)
    if source is not None and denoiser is not None:
        raise ConfigError(f"--denoiser: {source} already names one; pass only one of them")
    if source is not None and not (source.is_file() or (source / CONFIG).is_file()):
        raise ConfigError(f"{source}: is neither a finished run nor an export")
    path = source or denoiser
    if path is not None and path.is_dir():
        export = read_export(path)
        config = _config({**configuration_of_export(path, export), **flags}, out)
        return config, [subject_of_export(config, path, export, sigma)]
    config = _config(flags, out)
    return config, [subject_of_file(config, path, sigma)]


def _is_run(source: Path) -> bool:
    return (source / files.SUMMARY).is_file()


def _submit(source: Path | None, out: Path | None, given: Mapping[str, Any], detach: bool) -> None:
    """Certify as a job; `given` are the flags that were passed, and the address of the cluster."""
    out = out or Path(f"{source}-{files.CERTIFIED}" if source else files.CERTIFIED)
    config = _config({k: v for k, v in given.items() if k in RunConfig.model_fields}, out)
    passed = {k: v for k, v in given.items() if v is not None and k != "cluster"}
    submit_certification(config, source, {**passed, "out": out.name}, detach=detach)


def _run(config: RunConfig, subjects: list[Subject], folder: RunFolder, quiet: bool) -> None:
    # Imports Ray, which must not happen before `check_reachable`.
    from tuning.run.pipeline import carry_out
    from tuning.run.stages import certify_subjects

    if config.storage is not None:
        folder.fetch(run_storage(config))
    with folder.locked():
        _check_same(config, folder)
        write_text(folder.config, to_yaml(config))
        stages = partial(certify_subjects, subjects, folder)
        carry_out(stages, config, folder, "the same command", quiet=quiet)


def _config(values: Mapping[str, Any], out: Path) -> RunConfig:
    return make_config({**values, "out": out.parent, "name": out.resolve().name})


def _check_same(config: RunConfig, folder: RunFolder) -> None:
    """Make sure that a folder is new, or holds what the same command left.

    Raises:
        ConfigError: when it holds something else.
    """
    if folder.config.is_file():
        if folder.config.read_text() != to_yaml(config):
            raise ConfigError(
                f"--out: {folder.path} holds different certificates; pass a different folder"
            )
    elif folder.occupied:
        raise ConfigError(f"--out: {folder.path} is not empty; pass a different folder")
