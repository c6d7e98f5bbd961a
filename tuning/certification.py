"""Certification: the four variants on the same test images, which nothing else ever sees."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import NamedTuple

import ray
from torch import Tensor

from trainables.models.checkpoint import weights_hash
from trainables.smoothing.certify import Certificate, certificate
from tuning.cluster import Resources
from tuning.config import RunConfig
from tuning.confirm import Candidate, Confirmed
from tuning.errors import CertificationIncomplete
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
    variants: Mapping[str, Confirmed],
    config: RunConfig,
    *,
    seed: int,
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None],
) -> dict[str, list[Certified]]:
    """Certificates of every variant on the setting's test images.

    Raises:
        CertificationIncomplete: when votes could not be counted or stored.
    """
    images = setting.dataset.test.load(setting.test_indices)
    jobs = {
        variant: _jobs(confirmed.candidate, setting, images, config, seed)
        for variant, confirmed in variants.items()
    }
    try:
        counts = collect_votes(
            [job for pair in jobs.values() for job in pair], store, resources, advance
        )
    except (ray.exceptions.RayError, sqlite3.Error, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise CertificationIncomplete(
            f"certification of {setting.name} stopped: {reason}; "
            f"continue with --resume --name {config.name}"
        ) from error
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
    candidate: Candidate, setting: Setting, images: Tensor, config: RunConfig, seed: int
) -> tuple[VoteJob, VoteJob]:
    """Votes that pick the class, and the fresh ones that bound its probability."""

    def job(phase: str, votes: int) -> VoteJob:
        return VoteJob(
            model=candidate.model,
            model_hash=weights_hash(candidate.model),
            phase=phase,
            images=images,
            indices=setting.test_indices,
            sigma=candidate.sigma,
            votes=votes,
            seed=seed,
        )

    return job("select", config.n0), job("estimate", config.n)
