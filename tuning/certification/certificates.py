"""Certification: several models on the same test images, which nothing else ever sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from torch import nn

from trainables.acceleration.voting import Precision, prepared
from trainables.data.splits import HeldOutImages
from trainables.smoothing.certify import Certificate, certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Procedure
from trainables.smoothing.quantised import allowance
from trainables.weights.checkpoint import weights_hash
from tuning.cluster.resources import Resources
from tuning.votes.collector import VoteJob, collect_votes
from tuning.votes.store import VoteStore


class Smoothable(NamedTuple):
    """A model, and the noise under which it votes."""

    model: nn.Module
    noise: Noise


class Certified(NamedTuple):
    """One image's certificate, and the seconds its votes took."""

    image_index: int
    label: int
    certificate: Certificate
    seconds: float


def certify_models(
    setting: str,
    models: Mapping[str, Smoothable],
    test: HeldOutImages,
    procedure: Procedure,
    precision: Precision,
    *,
    seed: int,
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None],
) -> dict[str, list[Certified]]:
    """Certificates of every model on the same images and noise, by the models' names.

    `advance` is called with numbers of votes: n0 + n for each image and model in all.
    """
    shape = test.images.shape[1:]
    jobs = [
        VoteJob(
            name=f"{setting}: {name}",
            model=prepared(one.model, shape, precision),
            model_hash=f"{weights_hash(one.model)}-{precision}",
            images=test.images,
            indices=test.indices,
            noise=one.noise,
            seed=seed,
            ask=partial(
                certifying,
                replace(procedure, allowance=allowance(one.noise, shape)),
                one.noise.sigma,
            ),
            most=procedure.n0 + procedure.n,
        )
        for name, one in models.items()
    ]
    answers = collect_votes(jobs, store, resources, advance)
    return {
        name: [
            Certified(index, label, answer.result, answer.seconds)
            for index, label, answer in zip(test.indices, test.labels.tolist(), found, strict=True)
        ]
        for name, found in zip(models, answers, strict=True)
    }
