"""Certification of several models on the same test images, which are used for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Procedure
from trainables.smoothing.quantised import allowance
from tuning.certification.subjects import Subject
from tuning.certification.tables import (
    Certified,
    certificate_metadata,
    summary_rows,
    write_certificates,
)
from tuning.cluster.context import Context
from tuning.votes.counter import VoteCounter, smoothable
from tuning.votes.job import VoteJob


def certify(
    subject: Subject, classifier: nn.Module, folder: Path, counter: VoteCounter, context: Context
) -> list[dict[str, Any]]:
    """Certify the models of `subject` in front of `classifier`, and write the results to `folder`.

    Returns:
        A row of the run's summary for each model.
    """
    models = {name: smoothable(m.denoiser, classifier) for name, m in subject.models.items()}
    procedure = context.config.certificates(subject.radii)
    seed = context.seed(subject.name, *draws_of(procedure))
    votes = len(models) * len(subject.test.indices) * (procedure.n0 + procedure.n)
    with context.reporter.track(f"{subject.name}: certification votes", votes) as advance:
        certified = certify_models(subject, models, procedure, seed, counter, advance)
    metadata = certificate_metadata(context, subject, models, counter.precision)
    return summary_rows(subject, write_certificates(folder, subject, certified, metadata))


def draws_of(procedure: Procedure) -> tuple[str | int | float, ...]:
    """What the draws of certificates depend on, beside the run's seed, the setting and the image.

    Certificates with other numbers get fresh draws: whoever looks at some before choosing the
    numbers of the next ones must not count the same votes again.
    """
    return "certify", procedure.name, procedure.n0, procedure.n, procedure.alpha


def certify_models(
    subject: Subject,
    models: Mapping[str, nn.Module],
    procedure: Procedure,
    seed: int,
    counter: VoteCounter,
    advance: Callable[[int], None],
) -> dict[str, list[Certified]]:
    """Certificates of the subject's `models` on the same images and noise, by model name.

    `advance` is called with numbers of votes, in total n0 + n for each image and model.
    """
    test = subject.test
    shape = test.images.shape[1:]
    jobs = []
    for name, model in models.items():
        noise = Noise(subject.models[name].sigma, subject.pixel_steps)
        allowing = replace(procedure, allowance=allowance(noise, shape))
        job = VoteJob(
            f"{subject.name}: {name}",
            *counter.voter(model, shape),
            images=test.images,
            indices=test.indices,
            noise=noise,
            seed=seed,
            evaluate=partial(certifying, allowing, noise.sigma, len(test.indices)),
            most=procedure.n0 + procedure.n,
        )
        jobs.append(job)
    outcomes = counter.count(jobs, advance)
    return {
        name: [
            Certified(index, label, *outcome)
            for index, label, outcome in zip(
                test.indices, test.labels.tolist(), of_images, strict=True
            )
        ]
        for name, of_images in zip(models, outcomes, strict=True)
    }
