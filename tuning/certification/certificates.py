"""Certification of several models on the same test images, which are used for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.data.splits import HeldOutImages
from trainables.smoothing.assumptions import spread
from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Procedure
from trainables.smoothing.quantised import allowance
from tuning.certification.subjects import Subject
from tuning.certification.tables import Certified, write_results
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.setting.setting import Setting
from tuning.votes.counter import VoteCounter, Voter, smoothable
from tuning.votes.job import VoteJob

# Images in the first table: enough for an interval of 14 points.
FIRST_IMAGES = 50


@dataclass(frozen=True)
class Certifier:
    """Certifies models of the setting `name` on the same test images and the same draws.

    The noise is rounded to multiples of 1 / `pixel_steps`; 0 stands for Gaussian noise.
    """

    name: str
    test: HeldOutImages
    pixel_steps: int
    procedure: Procedure
    seed: int
    counter: VoteCounter

    @property
    def votes(self) -> int:
        """The most votes that certifying a model takes."""
        return len(self.test.indices) * (self.procedure.n0 + self.procedure.n)

    async def certify(
        self,
        variant: str,
        model: nn.Module,
        sigma: float,
        advance: Callable[[int], None] = lambda votes: None,
        first: Callable[[list[Certified]], None] | None = None,
    ) -> list[Certified]:
        """The certificates of `model`, in order of the images.

        `advance` is called with numbers of votes, in total `votes`. If there is a `first`, the
        certificates of a few images are made before anything else, and it is called with those.
        """
        voter = self.counter.voter(model, self.test.images.shape[1:])
        positions = range(len(self.test.indices))

        async def wave(of: Sequence[int], urgency: Urgency) -> list[Certified]:
            return await self._wave(variant, voter, sigma, of, urgency, advance)

        if first is None:
            return await wave(positions, Urgency.CERTIFICATION_VOTES)
        early = spread(len(positions), FIRST_IMAGES)
        rest = sorted({*positions} - {*early})
        found = await wave(early, Urgency.FIRST_TABLE)
        first(found)
        found += await wave(rest, Urgency.CERTIFICATION_VOTES)
        by_position = dict(zip([*early, *rest], found, strict=True))
        return [by_position[position] for position in positions]

    async def _wave(
        self,
        variant: str,
        voter: Voter,
        sigma: float,
        positions: Sequence[int],
        urgency: Urgency,
        advance: Callable[[int], None],
    ) -> list[Certified]:
        """The certificates of the images at `positions`."""
        test, noise = self.test, Noise(sigma, self.pixel_steps)
        allowing = replace(self.procedure, allowance=allowance(noise, test.images.shape[1:]))
        chosen = torch.tensor(positions, dtype=torch.int64)
        indices = [test.indices[position] for position in positions]
        job = VoteJob(
            f"{self.name}: {variant}",
            *voter,
            images=test.images[chosen],
            indices=indices,
            noise=noise,
            seed=self.seed,
            evaluate=partial(certifying, allowing, sigma, len(test.indices)),
            most=self.procedure.n0 + self.procedure.n,
        )
        outcomes = await self.counter.count(job, urgency, advance)
        labels = test.labels[chosen].tolist()
        return [
            Certified(index, label, *outcome)
            for index, label, outcome in zip(indices, labels, outcomes, strict=True)
        ]


def certifier_of(subject: Subject | Setting, counter: VoteCounter, context: Context) -> Certifier:
    """What certifies the models of `subject` as the run's flags say."""
    procedure = context.config.certificates(subject.radii)
    seed = context.seed(subject.name, *draws_of(procedure))
    return Certifier(subject.name, subject.test, subject.pixel_steps, procedure, seed, counter)


async def certify(
    subject: Subject, classifier: nn.Module, folder: Path, counter: VoteCounter, context: Context
) -> list[dict[str, Any]]:
    """Certify the models of `subject` in front of `classifier`, and write the results to `folder`.

    Returns:
        A row of the run's summary for each model.
    """
    certifier = certifier_of(subject, counter, context)
    votes = len(subject.models) * certifier.votes
    with context.reporter.track(
        f"{subject.name}: certification votes", votes, fast=True
    ) as advance:
        certified = await asyncio.gather(
            *(
                certifier.certify(name, smoothable(m.denoiser, classifier), m.sigma, advance)
                for name, m in subject.models.items()
            )
        )
    by_variant = dict(zip(subject.models, certified, strict=True))
    return write_results(subject, classifier, by_variant, folder, counter.precision, context)


def draws_of(procedure: Procedure) -> tuple[str | int | float, ...]:
    """What the draws of certificates depend on, beside the run's seed, the setting and the image.

    Certificates with other numbers get fresh draws: whoever looks at some before choosing the
    numbers of the next ones must not count the same votes again.
    """
    return "certify", procedure.name, procedure.n0, procedure.n, procedure.alpha
