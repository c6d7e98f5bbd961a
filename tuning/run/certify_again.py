"""Certificates for models that are there already: those of a run, an export, or the user's own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import filelock
from torch import nn

from results.curves import summary_row
from results.run import load_run
from results.schema import SUMMARY
from results.store import StoreError, write_json, write_table, write_text
from results.terminal import summary_tables
from trainables.acceleration.voting import Precision
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.splits import HeldOutImages, held_out_images
from trainables.errors import InputError
from trainables.models.denoisers import Denoiser
from trainables.smoothing.noise import Noise, derive_seed
from trainables.smoothing.quantised import steps_of
from trainables.smoothing.smoothed import CONFIG as EXPORT
from trainables.smoothing.smoothed import read_export
from trainables.weights.denoiser_file import load_denoiser, read_denoiser, trained_sigma
from tuning.cluster.address import dashboard_address
from tuning.cluster.connection import check_reachable, run_storage
from tuning.cluster.jobs import submit_certification
from tuning.cluster.mirror import Mirror
from tuning.config import CONFIG, RunConfig, make_config, read_yaml, setting_name, to_yaml
from tuning.errors import ConfigError
from tuning.monitoring.progress import chatter_to
from tuning.run.start import LOCK
from tuning.setting.classifier import base_classifier, check_classifier


class Model(NamedTuple):
    """A denoiser in front of the classifier, or the classifier alone, and its noise.

    `trial`, `objective` and `accuracy` are what a run says of it.
    """

    denoiser: Denoiser | None
    sigma: float
    trial: int | None = None
    objective: float | None = None
    accuracy: float | None = None


@dataclass(frozen=True)
class Subject:
    """Models by variant, to certify on the same images of `dataset`.

    `precision` is that in which they were certified before. The noise is rounded to multiples of
    1 / `pixel_steps`; 0 stands for Gaussian noise.
    """

    name: str
    dataset: Dataset
    test: HeldOutImages
    models: Mapping[str, Model]
    precision: Precision | None
    pixel_steps: int


def certify_again(
    source: Path | None,
    *,
    denoiser: Path | None,
    sigma: float | None,
    out: Path | None,
    flags: Mapping[str, Any],
    detach: bool,
) -> None:
    """Certify what the command line names, and write tables, logs, figures and a report to `out`.

    Raises:
        RunError: with the message and the exit code for the user.
    """
    address = dashboard_address(flags.get("cluster"))
    if address is not None:
        out = out or Path("certified" if source is None else f"{source}-certified")
        config = _config({**flags, "cluster": address}, out)
        own = {"denoiser": denoiser and str(denoiser), "sigma": sigma, "out": out.name}
        given = {k: v for k, v in {**flags, **own}.items() if v is not None and k != "cluster"}
        submit_certification(config, source, given, detach=detach)
        return
    if detach:
        raise ConfigError("--detach: needs the address of a dashboard, --cluster http://HOST:8265")
    try:
        if source is not None and (source / "summary.parquet").is_file():
            if denoiser is not None or sigma is not None:
                raise ConfigError("--denoiser and --sigma: a run has its own; leave them out")
            out = source / "certified" if out is None else out
            config = _config({**_of_run(source, flags), **flags}, out)
            subjects = _subjects(source, config, out)
        elif source is not None and denoiser is not None:
            raise ConfigError(f"--denoiser: {source} is one already; name one of them")
        else:
            out = Path("certified") if out is None else out
            path = source or denoiser
            config = _config({**_of_export(path), **flags}, out)
            subjects = [_subject(config, path, sigma, out)]
        for subject in subjects:
            check_classifier(config, subject.dataset, subject.test.images[:2])
        check_reachable(config)
    except (InputError, StoreError) as error:
        raise ConfigError(str(error)) from error
    mirror = None if config.storage is None else Mirror(out, run_storage(config))
    if mirror is not None:
        mirror.fetch()
    with _kept(out, config), nullcontext() if mirror is None else mirror.following():
        _certify(config, subjects, out)


def _certify(config: RunConfig, subjects: list[Subject], out: Path) -> None:
    # Imports Ray, which must not happen before `check_reachable`.
    from results.report import build_report
    from tuning.certification.certificates import Smoothable, certify_models
    from tuning.cluster.connection import connect
    from tuning.confirmation.confirm import smoothable
    from tuning.run import export as publish
    from tuning.run.failures import stopping
    from tuning.run.manifest import MANIFEST, run_manifest
    from tuning.votes.precision import decide_precision
    from tuning.votes.store import VoteStore

    rows: list[dict[str, Any]] = []
    procedure = config.certificates
    with (
        chatter_to(out / "ray.log") as reporter,
        stopping("the same command"),
        connect(config) as cluster,
    ):
        manifest = run_manifest(config, cluster, {})
        for subject in subjects:
            images = subject.test.images[:2]
            classifier = base_classifier(config, subject.dataset, images, reporter)
            models: dict[str, nn.Module] = {
                variant: classifier if m.denoiser is None else smoothable(m.denoiser, classifier)
                for variant, m in subject.models.items()
            }
            folder = out / subject.name
            folder.mkdir(exist_ok=True)
            precision = subject.precision
            if precision is None or config.precision != "auto":
                model = list(models.values())[-1]
                precision = decide_precision(config, model, images[0], cluster.resources)
            manifest["settings"][subject.name] = {"precision": precision}
            write_json(out / MANIFEST, manifest)
            total = len(models) * len(subject.test.indices) * (procedure.n0 + procedure.n)
            with reporter.track(f"{subject.name}: certification votes", total) as advance:
                certified = certify_models(
                    subject.name,
                    {
                        v: Smoothable(models[v], Noise(m.sigma, subject.pixel_steps))
                        for v, m in subject.models.items()
                    },
                    subject.test,
                    procedure,
                    precision,
                    seed=derive_seed(config.seed, subject.name, "certify"),
                    store=VoteStore(folder / "votes.db"),
                    resources=cluster.resources,
                    advance=advance,
                )
            device = cluster.resources.device
            metadata = publish.certificate_metadata(
                config, models, images, subject.pixel_steps, precision, device
            )
            tables = publish.write_certificates(folder, certified, metadata)
            for variant, m in subject.models.items():
                known = (m.trial, m.objective, m.accuracy)
                rows.append(summary_row(subject.name, variant, *known, tables[variant]))
        write_table(out / "summary.parquet", rows, SUMMARY)
        report = build_report(out)
        reporter.out.print(summary_tables(rows, config.objective))
        reporter.out.print(f"report: {report}", markup=False, highlight=False)


def _config(values: Mapping[str, Any], out: Path) -> RunConfig:
    return make_config({**values, "out": out.parent, "name": out.resolve().name})


def _of_run(run: Path, flags: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a run, without where it ran, and what `flags` replace together."""
    here = ("cluster", "storage", "concurrency", "autoscaling")
    stored = {k: v for k, v in read_yaml(run / CONFIG).items() if k not in here}
    if {"radii", "procedure"} & flags.keys():
        stored = {k: v for k, v in stored.items() if k not in ("radii", "procedure")}
    return stored


def _of_export(path: Path | None) -> dict[str, Any]:
    """The noise of an export: what it certifies with, unless `flags` say otherwise."""
    if path is None or not (path / EXPORT).is_file():
        return {}
    export, _ = read_export(path)
    return {"noise": "quantised" if export.pixel_steps else "gaussian"}


def _precisions(folder: Path) -> dict[str, Precision]:
    """By setting, in which precision a run or an interrupted command certified."""
    path = folder / "manifest.json"
    settings = json.loads(path.read_text())["settings"] if path.is_file() else {}
    return {n: entry["precision"] for n, entry in settings.items() if "precision" in entry}


def _subjects(run: Path, config: RunConfig, out: Path) -> list[Subject]:
    """The settings of a run, each with all that was certified there."""
    precisions = _precisions(run) | _precisions(out)
    names = {
        setting_name(dataset, shots): dataset
        for dataset in config.dataset
        for shots in config.shots
    }
    subjects = []
    for setting in load_run(run).settings:
        dataset = load_dataset(names[setting.name], config.data_dir, download=config.download)
        folder = run / setting.name / "denoisers"
        models = {}
        for row in setting.summary:
            path, trial = folder / f"{row['variant']}.safetensors", row["trial"]
            trained = None if trial is None else load_denoiser(read_denoiser(path))
            known = (row["tuning_objective"], row["tuning_accuracy"])
            models[row["variant"]] = Model(trained, row["sigma"], trial, *known)
        test = held_out_images(dataset, config.certify_images)
        precision = precisions.get(setting.name)
        pixel_steps = steps_of(config.noise, dataset, test)
        subjects.append(Subject(setting.name, dataset, test, models, precision, pixel_steps))
    return subjects


def _subject(config: RunConfig, path: Path | None, sigma: float | None, out: Path) -> Subject:
    """One denoiser, or none, on the only data set."""
    if len(config.dataset) > 1:
        raise ConfigError(f"--dataset: name one, not {', '.join(config.dataset)}")
    dataset = load_dataset(config.dataset[0], config.data_dir, download=config.download)
    test = held_out_images(dataset, config.certify_images)
    denoiser, precision = None, _precisions(out).get(dataset.name)
    if path is not None:
        data = read_denoiser(path, "--denoiser")
        denoiser, trained = load_denoiser(data), trained_sigma(data)
        if path.is_dir():
            export, _ = read_export(path)
            trained, precision = export.sigma, export.precision
        if None not in (sigma, trained) and sigma != trained:
            raise ConfigError(
                f"--sigma: {path} was trained for {trained:g}; leave the flag out, or pass a "
                f"denoiser trained for {sigma:g}"
            )
        sigma = sigma if trained is None else trained
        channels = test.images.shape[1]
        if denoiser.channels != channels:
            raise ConfigError(
                f"--denoiser: it takes images of {denoiser.channels} channels, but those of "
                f"{dataset.name} have {channels}"
            )
    if sigma is None:
        raise ConfigError("--sigma: the noise to certify under is missing; pass for example 0.25")
    if not 0 < sigma < float("inf"):
        raise ConfigError(f"--sigma: must be above 0; got {sigma}")
    variant = "none" if denoiser is None else "best"
    models = {variant: Model(denoiser, sigma)}
    pixel_steps = steps_of(config.noise, dataset, test)
    return Subject(dataset.name, dataset, test, models, precision, pixel_steps)


@contextmanager
def _kept(out: Path, config: RunConfig) -> Iterator[None]:
    """The folder `out`, new or of the same command before; nobody else works on it."""
    text, path = to_yaml(config), out / CONFIG
    if path.is_file() and path.read_text() != text:
        raise ConfigError(f"--out: {out} holds other certificates; pass another folder")
    if not path.is_file() and out.is_dir() and any(p.name != LOCK for p in out.iterdir()):
        raise ConfigError(f"--out: {out} is not empty; pass another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / LOCK)
        lock.acquire(timeout=0)
        write_text(path, text)
    except filelock.Timeout as error:
        raise ConfigError(f"--out: somebody else is working on {out}") from error
    except OSError as error:
        raise ConfigError(f"--out: {out} cannot be written: {error.strerror}") from error
    with lock:
        yield
