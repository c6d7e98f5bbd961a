"""The stages of a run in their order, for each of the two commands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from results import files
from results.schema import variant_place
from trainables.choices import ACR
from trainables.decrop.config import DecropConfig
from trainables.models.denoisers import build_denoiser
from trainables.smoothing.probes import QUERIES
from tuning.certification.certificates import certify
from tuning.certification.subjects import Model, Subject
from tuning.cluster.context import Context
from tuning.confirmation.confirm import confirm
from tuning.confirmation.final import Finalist, train_finalists
from tuning.confirmation.training import Trainer
from tuning.errors import AllTrialsFailed
from tuning.run.export import export, show_denoised
from tuning.run.folder import RunFolder
from tuning.run.manifest import Manifest
from tuning.run.pipeline import Rows
from tuning.search.precision import decide_training_precision
from tuning.search.search import Part, prepare, search, sources
from tuning.setting.classifier import base_classifier, gain_access
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord
from tuning.votes.counter import VoteCounter, smoothable
from tuning.votes.precision import decide_precision
from tuning.votes.store import VoteStore


def search_and_certify(
    settings: Sequence[Setting], folder: RunFolder, context: Context, manifest: Manifest
) -> Iterator[Rows]:
    """The stages of `tuning.launch`: the search in all settings at once, then the other stages."""
    context.reporter.say(f"TensorBoard:   tensorboard --logdir {folder.tensorboard}")
    if context.config.objective == ACR:
        context.reporter.say(
            "warning: --objective acr also pays a classifier that always gives the same answer; "
            "certified-accuracy does not"
        )
    source = sources(settings, context.config)
    parts = [_prepare(setting, source[setting.name], context, manifest) for setting in settings]
    for name, seconds in search(parts, context).items():
        manifest.add_seconds(name, "search", seconds)
    for part in parts:
        yield _after_the_search(part, context, manifest)


def certify_subjects(
    subjects: Sequence[Subject], folder: RunFolder, context: Context, manifest: Manifest
) -> Iterator[Rows]:
    """The stages of `tuning.certify`: its models exist already and are certified one by one."""
    for subject in subjects:
        images = subject.test.images[:2]
        classifier = base_classifier(context.config, subject.dataset, images, context.reporter)
        subject.check_classifier(classifier)
        manifest.add_subject(subject, classifier)
        place = folder.path / subject.name
        place.mkdir(exist_ok=True)
        store = VoteStore(place / files.VOTES)
        *_, last = subject.models.values()
        decided = manifest.precision(subject.name) or subject.precision
        example = smoothable(last.denoiser, classifier)
        precision = decide_precision(context, example, images[0], decided)
        manifest.record(subject.name, precision=precision)
        counter = VoteCounter(store, precision, context.resources)
        yield certify(subject, classifier, place, counter, context)


def _after_the_search(part: Part, context: Context, manifest: Manifest) -> Rows:
    """Confirm what the search found, train the winners on all shots, export and certify them."""
    setting, classifier = part.setting, part.access.certified
    records = _complete(part)
    counter = _counter(part, context, manifest)
    trainer = Trainer(setting.name, part.task, setting.folder / files.DENOISERS, context.resources)
    with manifest.timed(setting.name, "confirmation"):
        confirmation = confirm(setting, records, classifier, trainer, counter, context)
    with manifest.timed(setting.name, "training"):
        finalists = train_finalists(confirmation, setting, trainer, context)
    best = finalists["best"]
    export(setting, best, classifier, counter.precision, context)
    show_denoised(setting, best, part.board, context.seed(setting.name, "show"))
    models = {name: _model(finalists[name]) for name in sorted(finalists, key=variant_place)}
    subject = Subject(
        setting.name, setting.dataset, setting.test, models, setting.pixel_steps, setting.radii
    )
    with manifest.timed(setting.name, "certification"):
        rows = certify(subject, classifier, setting.folder, counter, context)
    if part.access.queries:
        manifest.record(setting.name, queries=part.access.queries | _queries(counter.store))
    return rows


def _prepare(setting: Setting, source: str | None, context: Context, manifest: Manifest) -> Part:
    """Prepare the search in a setting; `source` is the setting from which it takes over points."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    # Refuse votes of a different version before the search, not after it.
    VoteStore(setting.folder / files.VOTES)
    access = gain_access(context.config, setting, context.reporter)
    manifest.add_setting(setting, access.certified)
    decided = manifest.training_precision(setting.name)
    precision = decide_training_precision(setting, access.trained_through, context, decided)
    manifest.record(setting.name, training_precision=precision)
    return prepare(setting, access, source, context, run_id=manifest.run_id, precision=precision)


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


def _counter(part: Part, context: Context, manifest: Manifest) -> VoteCounter:
    """A counter of the setting's votes, in the precision of an earlier start if there was one."""
    setting = part.setting
    image = setting.shots.train_images[0]
    constants = DecropConfig.model_validate(setting.space.constants)
    denoiser = build_denoiser(constants.denoiser, image.shape[0], constants.model_dump())
    example = smoothable(denoiser, part.access.certified)
    precision = decide_precision(context, example, image, manifest.precision(setting.name))
    manifest.record(setting.name, precision=precision)
    return VoteCounter(VoteStore(setting.folder / files.VOTES), precision, context.resources)


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
