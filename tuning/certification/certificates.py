"""Certification of several models on the same test images, which are used for nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from trainables.data.splits import HeldOutImages
from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Procedure
from trainables.smoothing.quantised import allowance
from tuning.certification.subjects import Subject
from tuning.certification.tables import Certified, write_results
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.setting.setting import Setting
from tuning.votes.counter import VoteCounter, smoothable
from tuning.votes.job import VoteJob


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
    ) -> list[Certified]:
        """The certificates of `model`, in order of the images.

        `advance` is called with numbers of votes, in total `votes`.
        """
        test, noise = self.test, Noise(sigma, self.pixel_steps)
        shape = test.images.shape[1:]
        allowing = replace(self.procedure, allowance=allowance(noise, shape))
        job = VoteJob(
            f"{self.name}: {variant}",
            *self.counter.voter(model, shape),
            images=test.images,
            indices=test.indices,
            noise=noise,
            seed=self.seed,
            evaluate=partial(certifying, allowing, sigma, len(test.indices)),
            most=self.procedure.n0 + self.procedure.n,
        )
        outcomes = await self.counter.count(job, Urgency.CERTIFICATION_VOTES, advance)
        return [
            Certified(index, label, *outcome)
            for index, label, outcome in zip(
                test.indices, test.labels.tolist(), outcomes, strict=True
            )
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
    with context.reporter.track(f"{subject.name}: certification votes", votes, "votes") as advance:
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
