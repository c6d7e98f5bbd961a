"""The stages of a run in their order, for each of the two commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from pathlib import Path

from torch import nn

from results import files
from trainables.choices import ACR
from trainables.data.images import say_notes
from tuning.certification.certificates import certify
from tuning.certification.subjects import Subject
from tuning.cluster.context import Context
from tuning.cluster.pool import TaskPool
from tuning.config.command import command_of
from tuning.run.after_search import finish
from tuning.run.folder import RunFolder
from tuning.run.manifest import Manifest
from tuning.run.pipeline import Rows
from tuning.run.work import expected_operations
from tuning.search.precision import decide_training_precision
from tuning.search.search import Part, prepare, search, search_step, sources
from tuning.setting.classifier import base_classifier, gain_access
from tuning.setting.fit import Fit
from tuning.setting.setting import Setting
from tuning.votes.counter import VoteCounter, smoothable
from tuning.votes.precision import decide_precision
from tuning.votes.store import VoteStore


def search_and_certify(
    settings: Sequence[Setting],
    fits: Mapping[str, Fit],
    folder: RunFolder,
    context: Context,
    manifest: Manifest,
) -> Iterator[Rows]:
    """The stages of `tuning.launch`: the search in all settings at once, then the other stages.

    `fits` says how well the classifiers fit the settings for which that is known already.
    """
    context.reporter.say(f"TensorBoard:   tensorboard --logdir {folder.tensorboard}")
    if context.config.objective == ACR:
        context.reporter.warn(
            "--objective acr also pays a classifier that always gives the same answer; "
            "certified-accuracy does not"
        )
    say_notes([setting.dataset for setting in settings], context.reporter.say)
    manifest.add_command(command_of(context.config))
    source = sources(settings, context.config)
    parts = [
        _prepare(setting, fits.get(setting.name), source[setting.name], context, manifest)
        for setting in settings
    ]
    _expect(parts, context)
    over = asyncio.Event()
    finishing = [context.pool.begin(finish(part, over, context, manifest)) for part in parts]
    for name, seconds in search(parts, context).items():
        manifest.add_seconds(name, "search", seconds)
    over.set()
    yield from side_by_side(finishing, context.pool)


def _expect(parts: Sequence[Part], context: Context) -> None:
    """Tell the reporter how much work is to come."""
    if context.config.access == "black-box":
        # Votes take as long as the classifier's endpoint does.
        return
    searches = 0.0
    for part in parts:
        work = expected_operations(context.config, part.setting, part.access.trained_through)
        searches += work.pop(f"{part.setting.name}: search")
        context.reporter.expect(work)
    context.reporter.expect({search_step(parts): searches})


def certify_subjects(
    subjects: Sequence[Subject], folder: RunFolder, context: Context, manifest: Manifest
) -> Iterator[Rows]:
    """The stages of `tuning.certify`, whose models exist already."""
    say_notes([subject.dataset for subject in subjects], context.reporter.say)
    certifying = []
    for subject in subjects:
        images = subject.test.images[:2]
        classifier = base_classifier(context.config, subject.dataset, images, context.reporter)
        subject.check_classifier(classifier)
        manifest.add_subject(subject, classifier)
        certifying.append(_certify(subject, classifier, folder.path, context, manifest))
    yield from side_by_side(certifying, context.pool)


async def _certify(
    subject: Subject, classifier: nn.Module, folder: Path, context: Context, manifest: Manifest
) -> Rows:
    place = folder / subject.name
    place.mkdir(exist_ok=True)
    store = VoteStore(place / files.VOTES)
    *_, last = subject.models.values()
    decided = manifest.precision(subject.name) or subject.precision
    example = smoothable(last.denoiser, classifier)
    precision = await decide_precision(context, example, subject.test.images[0], decided)
    manifest.record(subject.name, precision=precision)
    counter = VoteCounter(store, precision, context.pool)
    return await certify(subject, classifier, place, counter, context)


def side_by_side(stages: Sequence[Awaitable[Rows]], pool: TaskPool) -> Iterator[Rows]:
    """Carry out `stages`, one for each setting, at the same time; yields the rows of each.

    If some fail, the others are completed before an error is raised.
    """

    async def completed() -> list[Rows | BaseException]:
        return await asyncio.gather(*stages, return_exceptions=True)

    errors = []
    for rows in pool.run(completed()):
        if isinstance(rows, BaseException):
            errors.append(rows)
        else:
            yield rows
    if errors:
        raise errors[0]


def _prepare(
    setting: Setting, fit: Fit | None, source: str | None, context: Context, manifest: Manifest
) -> Part:
    """Prepare the search in a setting; `source` is the setting from which it takes over points."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    # Refuse votes of a different version before the search, not after it.
    VoteStore(setting.folder / files.VOTES)
    access = gain_access(context.config, setting, fit, context.reporter)
    manifest.add_setting(setting, access.certified)
    manifest.record(setting.name, clean_accuracy=access.fit.facts)
    decided = manifest.training_precision(setting.name)
    deciding = decide_training_precision(setting, access.trained_through, context, decided)
    precision = context.pool.run(deciding)
    manifest.record(setting.name, training_precision=precision)
    return prepare(setting, access, source, context, run_id=manifest.run_id, precision=precision)
