"""Certification: the four variants on the same test images, which nothing else ever sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from trainables.models.checkpoint import weights_hash
from trainables.smoothing.certify import Certificate, certificate
from tuning.cluster import Resources
from tuning.config import RunConfig
from tuning.confirm import Candidate
from tuning.setting import Setting
from tuning.votes import VoteJob, VoteStore, collect_votes


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
    jobs = {
        variant: _jobs(candidate, setting, config, seed) for variant, candidate in variants.items()
    }
    every_job = [job for pair in jobs.values() for job in pair]
    counts = collect_votes(every_job, store, resources, advance)
    labels = setting.dataset.test.labels[setting.test_indices].tolist()
    certified: dict[str, list[Certified]] = {}
    for variant, (selection, estimation) in jobs.items():
        keys = zip(labels, selection.vote_keys(), estimation.vote_keys(), strict=True)
        certified[variant] = [
            Certified(
                estimate.image,
                label,
                certificate(
                    counts[select].votes,
                    counts[estimate].votes,
                    n0=select.votes,
                    n=estimate.votes,
                    sigma=estimate.sigma,
                    alpha=config.alpha,
                ),
                counts[select].seconds + counts[estimate].seconds,
            )
            for label, select, estimate in keys
        ]
    return certified


def _jobs(
    candidate: Candidate, setting: Setting, config: RunConfig, seed: int
) -> tuple[VoteJob, VoteJob]:
    """Votes that pick the class, and the fresh ones that bound its probability."""

    def job(phase: str, votes: int) -> VoteJob:
        return VoteJob(
            model=candidate.model,
            model_hash=weights_hash(candidate.model),
            phase=phase,
            images=setting.test_images,
            indices=setting.test_indices,
            sigma=candidate.confirmed.sigma,
            votes=votes,
            seed=seed,
        )

    return job("select", config.n0), job("estimate", config.n)
