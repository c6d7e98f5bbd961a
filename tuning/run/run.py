"""A whole run: search, confirmation, certification and results, setting by setting."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from results.report import build_report
from results.schema import SUMMARY
from results.store import write_json, write_table
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import build_denoiser
from trainables.smoothing.noise import derive_seed
from tuning.certification.certificates import Certified, Smoothable, certify_models
from tuning.cluster.connection import Cluster, connect
from tuning.cluster.context import Context
from tuning.cluster.hosts import lost_hosts
from tuning.cluster.mirror import Mirror
from tuning.config import RunConfig
from tuning.confirmation.confirm import (
    Candidate,
    Confirmation,
    Scorer,
    confirm,
    retrain,
    smoothable,
    train_candidates,
)
from tuning.confirmation.selection import shortlisted
from tuning.confirmation.training import Trainer
from tuning.errors import AllTrialsFailed
from tuning.monitoring.progress import Reporter
from tuning.monitoring.tensorboard import StudyBoard
from tuning.run import export as publish
from tuning.run.failures import stopping
from tuning.run.manifest import MANIFEST, read_manifest, run_manifest, setting_manifest
from tuning.search.budget import confirmation_votes
from tuning.search.search import Part, prepare, search, sources
from tuning.setting.classifier import gain_access
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord
from tuning.votes.precision import decide_precision
from tuning.votes.store import VoteStore


class Run:
    """One run in its folder; `execute` does what is still to do and returns the summary rows."""

    def __init__(self, config: RunConfig, settings: list[Setting], reporter: Reporter) -> None:
        self.config, self.settings, self.reporter = config, settings, reporter
        self.folder = config.run_folder
        self.previous = read_manifest(self.folder / MANIFEST)

    def execute(self) -> list[dict[str, Any]]:
        """Search, confirm, certify and report.

        Raises:
            RunError: when the run cannot end; what is done is kept, and --resume goes on from it.
        """
        with stopping(f"--resume --out {self.config.out} --name {self.config.name}"):
            return self._execute()

    def _execute(self) -> list[dict[str, Any]]:
        summary: list[dict[str, Any]] = []
        self.reporter.say("starting Ray ...")
        with connect(self.config) as cluster, self._mirrored(cluster):
            if cluster.dashboard:
                self.reporter.say(f"Ray dashboard: http://{cluster.dashboard}")
            self.reporter.say(f"TensorBoard:   tensorboard --logdir {self.folder / 'tensorboard'}")
            self.manifest = run_manifest(self.config, cluster, self.previous)
            lost_before = lost_hosts()
            parts = [self._prepare(setting, cluster) for setting in self.settings]
            context = Context(self.config, cluster, self.reporter)
            for setting, seconds in search(parts, context).items():
                self._add_seconds(setting, "search", seconds)
            for part in parts:
                summary += self._finish(part, cluster)
                write_table(self.folder / "summary.parquet", summary, SUMMARY)
            self.manifest["lost_hosts"] += [
                reason for host, reason in lost_hosts().items() if host not in lost_before
            ]
            self._write_manifest()
            self.reporter.say("writing the report ...")
            build_report(self.folder)
        return summary

    def _mirrored(self, cluster: Cluster) -> AbstractContextManager[None]:
        """Keep the storage up to date, where it is not the run folder itself."""
        if self.config.storage is None:
            return nullcontext()
        return Mirror(self.folder, cluster.storage).following()

    def _prepare(self, setting: Setting, cluster: Cluster) -> Part:
        setting.folder.mkdir(parents=True, exist_ok=True)
        # Votes of another version are refused before the search, not after it.
        self._store(setting)
        access = gain_access(self.config, setting, self.reporter)
        entry = setting_manifest(setting, access.certified, self.previous)
        self.manifest["settings"][setting.name] = entry
        self._write_manifest()
        source = sources(self.settings, self.config)[setting.name]
        context = Context(self.config, cluster, self.reporter)
        return prepare(setting, access, source, context, self.manifest["run_id"])

    def _finish(self, part: Part, cluster: Cluster) -> list[dict[str, Any]]:
        """Confirm, certify and publish one setting."""
        setting, access = part.setting, part.access
        records = part.ledger.attempts.records()
        if not any(r.state == "complete" for r in records):
            errors = "; ".join(sorted({r.error for r in records if r.error}))
            raise AllTrialsFailed(f"every trial of {setting.name} failed: {errors}")
        store = self._store(setting)
        precision = self._precision(part, cluster)
        folder = setting.folder / publish.DENOISERS
        trainer = Trainer(setting.name, part.task, folder, cluster.resources)
        with self._timed(setting, "confirmation"):
            confirmation = self._confirm(part, records, trainer, cluster, store, precision)
        publish.write_confirmation(setting, confirmation)
        with self._timed(setting, "training"):
            self.reporter.say(f"{setting.name}: training on all shots ...")
            seed = self._seed(setting, "final")
            variants = retrain(confirmation, setting, trainer, access.certified, seed)
        publish.write_denoisers(setting, variants)
        best = variants["best"]
        publish.write_export(setting, best, access.certified, self.config, precision)
        self._show_best(setting, best, part.board)
        with self._timed(setting, "certification"):
            certified = self._certify(setting, variants, cluster, store, precision)
        if access.queries:
            entry = self.manifest["settings"][setting.name]
            entry["queries"] = access.queries | _queries(store)
        models = {variant: candidate.model for variant, candidate in variants.items()}
        device = cluster.resources.device
        metadata = publish.certificate_metadata(
            self.config, models, setting.test.images, setting.pixel_steps, precision, device
        )
        rows = publish.write_certificates(setting.folder, certified, metadata)
        return publish.summary_rows(setting, variants, rows)

    def _confirm(
        self,
        part: Part,
        records: list[TrialRecord],
        trainer: Trainer,
        cluster: Cluster,
        store: VoteStore,
        precision: Precision,
    ) -> Confirmation:
        config, setting = self.config, part.setting
        name, folds = f"{setting.name}: confirmation", config.confirm_folds
        seed = self._seed(setting, "confirm")
        classifier, resources = part.access.certified, cluster.resources
        scorer = Scorer(setting, classifier, config, seed, store, resources, precision)
        shortlist = shortlisted(records, config.candidates, config.pareto)
        with self.reporter.track(f"{name} trainings", len(shortlist) * folds) as advance:
            candidates = train_candidates(shortlist, scorer, trainer, advance)
        votes = confirmation_votes(config, setting, len(candidates))
        with self.reporter.track(f"{name} votes", votes) as advance:
            return confirm(candidates, scorer, advance)

    def _certify(
        self,
        setting: Setting,
        variants: Mapping[str, Candidate],
        cluster: Cluster,
        store: VoteStore,
        precision: Precision,
    ) -> dict[str, list[Certified]]:
        images = len(variants) * len(setting.test.indices)
        total = images * (self.config.n0 + self.config.n)
        with self.reporter.track(f"{setting.name}: certification votes", total) as advance:
            return certify_models(
                setting.name,
                {v: Smoothable(c.model, c.confirmed.sigma) for v, c in variants.items()},
                setting.test,
                self.config.certificates,
                precision,
                setting.pixel_steps,
                seed=self._seed(setting, "certify"),
                store=store,
                resources=cluster.resources,
                advance=advance,
            )

    def _precision(self, part: Part, cluster: Cluster) -> Precision:
        """In which the setting's votes are counted: what an earlier start decided, or now."""
        setting, entry = part.setting, self.manifest["settings"][part.setting.name]
        if "precision" not in entry:
            image = setting.shots.train_images[0]
            config = DecropConfig.model_validate(setting.space.constants)
            denoiser = build_denoiser(config.denoiser, image.shape[0], config.model_dump())
            model = smoothable(denoiser, part.access.certified)
            entry["precision"] = decide_precision(self.config, model, image, cluster.resources)
            self._write_manifest()
        found: Precision = entry["precision"]
        return found

    def _show_best(self, setting: Setting, best: Candidate, board: StudyBoard) -> None:
        assert best.denoiser is not None
        clean = setting.shots.tuning_images[:8]
        generator = torch.Generator().manual_seed(self._seed(setting, "show"))
        noise = torch.randn(clean.shape, generator=generator)
        noisy = clean + best.confirmed.sigma * noise
        with torch.inference_mode():
            board.denoised(clean, noisy, best.denoiser(noisy))

    def _store(self, setting: Setting) -> VoteStore:
        return VoteStore(setting.folder / "votes.db")

    def _seed(self, setting: Setting, purpose: str) -> int:
        return derive_seed(self.config.seed, setting.name, purpose)

    @contextmanager
    def _timed(self, setting: Setting, step: str) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self._add_seconds(setting.name, step, time.perf_counter() - started)

    def _add_seconds(self, setting: str, step: str, more: float) -> None:
        seconds = self.manifest["settings"][setting]["seconds"]
        seconds[step] = round(seconds.get(step, 0.0) + more, 2)
        self._write_manifest()

    def _write_manifest(self) -> None:
        write_json(self.folder / MANIFEST, self.manifest)


def _queries(store: VoteStore) -> dict[str, int]:
    """What a black box was asked beside its training: one query a vote."""
    votes = store.votes_by_phase()
    certification = votes.get("select", 0) + votes.get("estimate", 0)
    return {"confirmation": votes.get("confirm", 0), "certification": certification}
