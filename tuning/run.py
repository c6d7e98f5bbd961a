"""A whole run: search, confirmation, certification and results, setting by setting."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import ray
import ray.tune
import torch
from optuna.exceptions import StorageInternalError
from torch import nn

from results.report import build_report
from results.schema import SUMMARY
from results.store import write_json, write_table
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoiser_file import load_denoiser
from trainables.models.denoisers import Denoiser
from trainables.smoothing.noise import derive_seed
from trainables.smoothing.objective import Objective
from trainables.trainable import TrialTask
from tuning import publish
from tuning.base_classifier import gain_access
from tuning.certification import certify_variants
from tuning.cluster import Cluster, connect
from tuning.config import RunConfig
from tuning.confirm import Winners, confirm
from tuning.cost import confirmation_votes
from tuning.errors import AllTrialsFailed, CertificationIncomplete, ConfigError
from tuning.ledger import FILE as LEDGER
from tuning.ledger import Ledger, TrialRecord, sqlite_url, study_name
from tuning.manifest import run_manifest, setting_manifest
from tuning.progress import Reporter
from tuning.samples import SharedSamples
from tuning.search import run_search
from tuning.setting import Setting
from tuning.tensorboard import StudyBoard
from tuning.votes import VoteStore

MANIFEST = "manifest.json"
# Trials proposed together, so that a few workers more or less change nothing.
SMALLEST_COHORT = 4
# A full disk, a lost cluster, a damaged ledger, an endpoint that went away: nothing that the
# configuration could mend.
ENVIRONMENT_ERRORS = (
    InputError,
    OSError,
    sqlite3.Error,
    StorageInternalError,
    ray.exceptions.RayError,
    ray.tune.TuneError,
)


class Run:
    """One run in its folder; `execute` does what is still to do and returns the summary rows."""

    def __init__(self, config: RunConfig, settings: list[Setting], reporter: Reporter) -> None:
        self.config, self.settings, self.reporter = config, settings, reporter
        self.folder = config.run_folder
        self.previous = _read_manifest(self.folder / MANIFEST)

    def execute(self) -> list[dict[str, Any]]:
        """Search, confirm, certify and report.

        Raises:
            RunError: when the run cannot end; what is done is kept, and --resume goes on from it.
        """
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        try:
            return self._execute()
        except ENVIRONMENT_ERRORS as error:
            cause = error.cause if isinstance(error, ray.exceptions.RayTaskError) else error
            reason = str(cause).strip().splitlines()[-1]
            raise CertificationIncomplete(
                f"the run stopped: {reason}; mend that, then go on with "
                f"--resume --out {self.config.out} --name {self.config.name}"
            ) from error

    def _execute(self) -> list[dict[str, Any]]:
        summary: list[dict[str, Any]] = []
        self.reporter.say("starting Ray ...")
        with connect(self.config) as cluster:
            if cluster.dashboard:
                self.reporter.say(f"Ray dashboard: http://{cluster.dashboard}")
            self.reporter.say(f"TensorBoard:   tensorboard --logdir {self.folder / 'tensorboard'}")
            self.manifest = run_manifest(self.config, cluster, self.previous)
            for setting in self.settings:
                summary += self._setting(setting, cluster)
                write_table(self.folder / "summary.parquet", summary, SUMMARY)
        self._write_manifest()
        self.reporter.say("writing the report ...")
        build_report(self.folder)
        return summary

    def _setting(self, setting: Setting, cluster: Cluster) -> list[dict[str, Any]]:
        setting.folder.mkdir(parents=True, exist_ok=True)
        access = gain_access(self.config, setting, self.reporter)
        entry = setting_manifest(setting, access.certified, self.previous)
        self.manifest["settings"][setting.name] = entry
        self._write_manifest()
        board = StudyBoard(self.folder / "tensorboard" / setting.name)
        with self._timed(setting, "search"):
            records = self._search(setting, access.trained_through, cluster, board)
        store = VoteStore(setting.folder / "votes.db")
        with self._timed(setting, "confirmation"):
            winners = self._confirm(setting, access.certified, records, cluster, store)
        publish.write_confirmation(setting, winners)
        publish.write_export(setting, winners.variants["best"], access.certified, self.config)
        self._show_best(setting, winners, board)
        with self._timed(setting, "certification"):
            certified = self._certify(setting, winners, cluster, store)
        if access.queries:
            entry["queries"] = access.queries | _queries(store)
        metadata = publish.certificate_metadata(self.config, winners, cluster.resources.device)
        rows = publish.write_certificates(setting, certified, metadata)
        return publish.summary_rows(setting, winners, rows)

    def _search(
        self, setting: Setting, classifier: BaseClassifier, cluster: Cluster, board: StudyBoard
    ) -> list[TrialRecord]:
        ledger = Ledger(
            sqlite_url(self.folder / LEDGER),
            study_name(setting.name, setting.space),
            setting.space,
            trials=self.config.trials,
            cohort=self.config.cohort or max(SMALLEST_COHORT, cluster.resources.concurrency),
            seed=self._seed(setting, "search"),
        )
        if abandoned := ledger.reconcile():
            self.reporter.say(f"{abandoned} interrupted trials start again")
        with self.reporter.track(f"{setting.name}: search", ledger.roots) as advance:
            advance(ledger.roots - ledger.open_roots)

            def on_end() -> None:
                publish.write_trials(setting.folder, setting.space, ledger.records())
                advance(1)

            if not ledger.finished:
                run_search(
                    ledger,
                    self._task(setting, classifier, cluster),
                    setting=setting.name,
                    resources=cluster.resources,
                    scratch=setting.folder / "tune",
                    board=board,
                    budget=self.config.budget,
                    on_end=on_end,
                )
        records = ledger.records()
        publish.write_trials(setting.folder, setting.space, records)
        if not any(r.state == "complete" for r in records):
            errors = "; ".join(sorted({r.error for r in records if r.error}))
            raise AllTrialsFailed(f"every trial of {setting.name} failed: {errors}")
        return records

    def _task(self, setting: Setting, classifier: BaseClassifier, cluster: Cluster) -> TrialTask:
        return TrialTask(
            classifier=classifier,
            train_images=setting.shots.train_images,
            train_labels=setting.shots.train_labels,
            tuning_images=setting.shots.tuning_images,
            tuning_labels=setting.shots.tuning_labels,
            objective=Objective.parse(self.config.objective),
            tuning_votes=self.config.tuning_votes,
            n=self.config.n,
            alpha=self.config.alpha,
            seed=self._seed(setting, "tuning"),
            rungs=setting.rungs,
            samples=SharedSamples(),
            initial=setting.initial,
            denoisers=(setting.folder / "denoisers").resolve(),
            device=cluster.resources.device,
            threads=cluster.resources.cpus_per_trial,
        )

    def _confirm(
        self,
        setting: Setting,
        classifier: nn.Module,
        records: list[TrialRecord],
        cluster: Cluster,
        store: VoteStore,
    ) -> Winners:
        votes, top = self.config.confirm_votes, self.config.confirm_top
        searched = sum(r.origin == "search" and r.state == "complete" for r in records)
        total = confirmation_votes(setting, searched, votes=votes, top=top)
        with self.reporter.track(f"{setting.name}: confirmation votes", total) as advance:
            return confirm(
                setting,
                records,
                lambda record: self._denoiser(setting, record),
                classifier,
                self.config,
                seed=self._seed(setting, "confirm"),
                store=store,
                resources=cluster.resources,
                advance=advance,
            )

    def _certify(
        self, setting: Setting, winners: Winners, cluster: Cluster, store: VoteStore
    ) -> dict[str, Any]:
        images = len(winners.variants) * len(setting.test_indices)
        total = images * (self.config.n0 + self.config.n)
        with self.reporter.track(f"{setting.name}: certification votes", total) as advance:
            return certify_variants(
                setting,
                winners.variants,
                self.config,
                seed=self._seed(setting, "certify"),
                store=store,
                resources=cluster.resources,
                advance=advance,
            )

    def _denoiser(self, setting: Setting, record: TrialRecord) -> Denoiser:
        return load_denoiser(
            (setting.folder / "denoisers" / f"{record.number}.safetensors").read_bytes()
        )

    def _show_best(self, setting: Setting, winners: Winners, board: StudyBoard) -> None:
        candidate = winners.variants["best"].candidate
        assert candidate.denoiser is not None
        clean = setting.shots.tuning_images[:8]
        generator = torch.Generator().manual_seed(self._seed(setting, "show"))
        noisy = clean + candidate.sigma * torch.randn(clean.shape, generator=generator)
        with torch.inference_mode():
            board.denoised(clean, noisy, candidate.denoiser(noisy))

    def _seed(self, setting: Setting, purpose: str) -> int:
        return derive_seed(self.config.seed, setting.name, purpose)

    @contextmanager
    def _timed(self, setting: Setting, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.manifest["settings"][setting.name]["seconds"]
            seconds[step] = round(seconds.get(step, 0.0) + time.perf_counter() - started, 2)
            self._write_manifest()

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest)


def _queries(store: VoteStore) -> dict[str, int]:
    """What a black box was asked beside its training: one query a vote."""
    votes = store.votes_by_phase()
    certification = votes.get("select", 0) + votes.get("estimate", 0)
    return {"confirmation": votes.get("confirm", 0), "certification": certification}


def _read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of the run that is resumed, or an empty one."""
    if not path.is_file():
        return {}
    try:
        manifest: dict[str, Any] = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(f"--resume: {path} is damaged; delete it, or start a new run") from error
    return manifest
