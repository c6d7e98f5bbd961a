"""What follows the search in a setting: confirmation, final trainings and certificates.

They share the workers: what is certain to be needed begins while the rest is still confirmed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from results import files
from results.schema import Row, variant_place
from results.summary import Candidate, summary_row
from results.terminal import objective_label, variant_table
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import Denoiser, build_denoiser
from trainables.smoothing.probes import QUERIES
from tuning.certification.certificates import certifier_of
from tuning.certification.subjects import Model, Subject
from tuning.certification.tables import Certified, certificate_row, write_results
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.config import RunConfig
from tuning.confirmation.confirm import confirm
from tuning.confirmation.final import Finalist, FinalTrainer, gather_finalists, write_denoisers
from tuning.confirmation.selection import Confirmation, shortlisted
from tuning.confirmation.training import Trainer
from tuning.errors import AllTrialsFailed
from tuning.run.best_space import write_best_space
from tuning.run.export import export, show_denoised
from tuning.run.manifest import Manifest
from tuning.run.pipeline import Rows
from tuning.search.search import Part
from tuning.study.attempts import TrialRecord, best_first
from tuning.votes.counter import VoteCounter, smoothable
from tuning.votes.precision import decide_precision
from tuning.votes.store import VoteStore

# Variants with a single candidate, which is certified whatever the others score.
CERTAIN = ("published", "label_consistency")


async def finish(part: Part, over: asyncio.Event, context: Context, manifest: Manifest) -> Rows:
    """Confirm what the search found, train the winners on all shots, export and certify them.

    It begins beside the search, on workers that have no more trials; `over` is set after it.

    Raises:
        AllTrialsFailed: when no trial is complete, or a variant has none.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
    setting, config, ledger, pool = part.setting, context.config, part.ledger, context.pool
    await pool.until(lambda: over.is_set() or ledger.baselines_finished)
    counting = asyncio.create_task(_counter(part, context, manifest))
    trainer = Trainer(setting.name, part.task, setting.folder / files.DENOISERS, pool)
    finishing = _Finishing(part, trainer, counting, context, manifest)
    for record in best_first(ledger.attempts.records()):
        if record.origin in CERTAIN:
            # The first one of its origin.
            finishing.begin(record.origin, record, record.hyperparameters.sigma, early=True)
    await pool.until(lambda: over.is_set() or ledger.finished)
    shortlist = shortlisted(_complete(part), config.candidates, config.pareto)
    counter = await counting
    with manifest.timed(setting.name, "confirmation"):
        confirming = asyncio.create_task(
            confirm(setting, shortlist, part.access.certified, trainer, counter, context)
        )
        await pool.until(lambda: confirming.done() or not pool.idle)
        _record_insight(part, config)
        confirmation = await confirming
    rows = await finishing.certify(confirmation, counter)
    if part.access.queries:
        manifest.record(setting.name, queries=part.access.queries | _queries(counter.store))
    return rows


class _Finishing:
    """The final trainings and the certificates of a setting, by the name of what is certified."""

    def __init__(
        self,
        part: Part,
        trainer: Trainer,
        counting: Awaitable[VoteCounter],
        context: Context,
        manifest: Manifest,
    ) -> None:
        self.setting, self.access, self.board = part.setting, part.access, part.board
        self.counting, self.context, self.manifest = counting, context, manifest
        self.final = FinalTrainer(part.setting, trainer, context.seed(part.setting.name, "final"))
        self.trainings: dict[str, asyncio.Task[Denoiser | None]] = {}
        self.certifying: dict[str, asyncio.Task[list[Certified]]] = {}
        self.first: dict[str, Row] = {}
        # Votes that were counted before there was anybody to show them.
        self.unseen = 0
        self.show: Callable[[int], None] | None = None

    def begin(
        self, name: str, trial: TrialRecord | None, sigma: float, early: bool = False
    ) -> None:
        """Train a trial's configuration on all shots and certify it, unless that has begun.

        Without a trial, it is the bare classifier. `early` ones are in the first table.
        """
        if name not in self.certifying:
            if trial is not None:
                urgency = Urgency.FIRST_TABLE if early else Urgency.FINAL_TRAINING
                self.trainings[name] = asyncio.create_task(self.final.train(trial, urgency))
            self.certifying[name] = asyncio.create_task(self._certified(name, sigma, early))

    async def certify(self, confirmation: Confirmation, counter: VoteCounter) -> Rows:
        """Train, export and certify what was chosen; returns the rows of the summary."""
        setting, context, manifest = self.setting, self.context, self.manifest
        chosen = confirmation.variants | confirmation.further
        context.reporter.say(f"{setting.name}: training on all shots ...")
        for name, one in chosen.items():
            self.begin(name, one.trial, one.sigma)
        votes = len(chosen) * certifier_of(setting, counter, context).votes
        step = f"{setting.name}: certification votes"
        with context.reporter.track(step, votes, fast=True) as self.show:
            self._advance(0)
            with manifest.timed(setting.name, "training"):
                finalists = await gather_finalists(confirmation, self.trainings)
            self._keep(finalists, counter)
            with manifest.timed(setting.name, "certification"):
                certified = {name: await self.certifying[name] for name in chosen}
        names = sorted(finalists, key=variant_place)
        models = {name: _model(finalists[name]) for name in names}
        subject = Subject(
            setting.name, setting.dataset, setting.test, models, setting.pixel_steps, setting.radii
        )
        return write_results(
            subject,
            self.access.certified,
            {name: certified[name] for name in names},
            setting.folder,
            counter.precision,
            context,
        )

    async def _certified(self, name: str, sigma: float, early: bool) -> list[Certified]:
        """The certificates; none if the final training diverges."""
        training = self.trainings.get(name)
        denoiser = None if training is None else await training
        certifier = certifier_of(self.setting, await self.counting, self.context)
        if training is not None and denoiser is None:
            self._advance(certifier.votes)
            return []
        model = smoothable(denoiser, self.access.certified)
        first = partial(self._show_first, name) if early else None
        return await certifier.certify(name, model, sigma, self._advance, first)

    def _show_first(self, name: str, found: list[Certified]) -> None:
        """Show what is known so far, once the first images of all early variants are certified."""
        setting = self.setting
        rows = [certificate_row(name, each) for each in found]
        self.first[name] = summary_row(setting.name, Candidate(name, name), rows, setting.radii)
        if set(self.first) == set(CERTAIN):
            title = f"{setting.name}, so far ({len(found)} of {len(setting.test.indices)} images)"
            self.context.reporter.show(
                variant_table(
                    title, [self.first[each] for each in sorted(CERTAIN, key=variant_place)]
                )
            )

    def _advance(self, votes: int) -> None:
        self.unseen += votes
        if self.show is not None:
            self.show(self.unseen)
            self.unseen = 0

    def _keep(self, finalists: Mapping[str, Finalist], counter: VoteCounter) -> None:
        """Write the denoisers and the export, and show what the winner does."""
        setting, context, best = self.setting, self.context, finalists["best"]
        write_denoisers(setting, finalists)
        export(setting, best, self.access, counter.precision, context)
        if best.confirmed.trial is not None:
            write_best_space(setting, best.confirmed.trial, context.config)
        show_denoised(setting, best, self.board, context.seed(setting.name, "show"))


def _complete(part: Part) -> list[TrialRecord]:
    """All attempts of a search that has ended.

    Raises:
        AllTrialsFailed: when none of them is complete.
    """
    records = part.ledger.attempts.records()
    if not any(r.state == "complete" for r in records):
        errors = "; ".join(sorted({r.error for r in records if r.error}))
        raise AllTrialsFailed(f"every trial of {part.setting.name} failed: {errors}")
    return records


async def _counter(part: Part, context: Context, manifest: Manifest) -> VoteCounter:
    """A counter of the setting's votes, in the precision of an earlier start if there was one."""
    setting = part.setting
    image = setting.shots.train_images[0]
    constants = DecropConfig.model_validate(setting.space.constants)
    denoiser = build_denoiser(constants.denoiser, image.shape[0], constants.model_dump())
    example = smoothable(denoiser, part.access.certified)
    precision = await decide_precision(context, example, image, manifest.precision(setting.name))
    manifest.record(setting.name, precision=precision)
    return VoteCounter(VoteStore(setting.folder / files.VOTES), precision, context.pool)


def _record_insight(part: Part, config: RunConfig) -> None:
    """Write what the search has learnt, which takes seconds: while workers are busy."""
    # scikit-learn, which would delay the first trial.
    from tuning.study.insight import write_insight

    write_insight(part.setting.folder, part.ledger.study, objective_label(config.objective))


def _model(finalist: Finalist) -> Model:
    """A finalist as a model to certify."""
    confirmed, trial = finalist.confirmed, finalist.confirmed.trial
    return Model(
        finalist.denoiser,
        confirmed.sigma,
        "none" if trial is None else trial.origin,
        None if trial is None else trial.number,
        confirmed.score.mean,
        confirmed.accuracy,
    )


def _queries(store: VoteStore) -> dict[str, int]:
    """The queries to a black box after its training: one for each vote, and the export's probes."""
    votes = store.votes_by_phase()
    certification = votes.get("select", 0) + votes.get("estimate", 0)
    return {
        "confirmation": votes.get("confirm", 0),
        "export": QUERIES,
        "certification": certification,
    }
