"""Certification: the four variants on the same test images, which nothing else ever sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from trainables.models.checkpoint import weights_hash
from trainables.smoothing.certify import Certificate, certifying
from tuning.cluster import Resources
from tuning.config import RunConfig
from tuning.confirm import Candidate
from tuning.setting import Setting
from tuning.vote_store import VoteStore
from tuning.votes import VoteJob, collect_votes


class Certified(NamedTuple):
    """One image's certificate, and the seconds its votes took."""

    image_index: int
    label: int
    certificate: Certificate
    seconds: float


def certify_variants(
    setting: Setting,
    variants: Mapping[str, Candidate],
    config: RunConfig,
    *,
    seed: int,
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None],
) -> dict[str, list[Certified]]:
    """Certificates of every variant on the setting's test images."""
    jobs = [
        VoteJob(
            model=candidate.model,
            model_hash=weights_hash(candidate.model),
            images=setting.test_images,
            indices=setting.test_indices,
            sigma=candidate.confirmed.sigma,
            seed=seed,
            ask=partial(certifying, config.certificates, candidate.confirmed.sigma),
            most=config.n0 + config.n,
        )
        for candidate in variants.values()
    ]
    answers = collect_votes(jobs, store, resources, advance)
    labels = setting.dataset.test.labels[setting.test_indices].tolist()
    return {
        variant: [
            Certified(index, label, answer.result, answer.seconds)
            for index, label, answer in zip(setting.test_indices, labels, found, strict=True)
        ]
        for variant, found in zip(variants, answers, strict=True)
    }
