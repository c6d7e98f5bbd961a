from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.data.datasets import load_dataset
from trainables.data.splits import held_out_images
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from tuning.certification.certificates import certify_models
from tuning.certification.subjects import Model, Subject
from tuning.cluster.resources import Resources
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Outcome, VoteJob
from tuning.votes.store import VoteStore


@dataclass(frozen=True)
class PretendedCounter(VoteCounter):
    """Keeps the jobs and counts nothing."""

    jobs: list[VoteJob[Any]] = field(default_factory=list)

    def voter(self, model: nn.Module, shape: Sequence[int]) -> Voter:
        return Voter(model, "hash")

    def count(
        self, jobs: Sequence[VoteJob[Any]], advance: Callable[[int], None]
    ) -> list[list[Outcome[Any]]]:
        self.jobs.extend(jobs)
        return [[Outcome(None, 0.0) for _ in job.indices] for job in jobs]


def test_all_models_are_certified_on_the_same_test_images_each_under_its_own_sigma(
    tmp_path: Path,
) -> None:
    digits = load_dataset("digits")
    test = held_out_images(digits, 5)
    models = {"none": Model(None, 0.12), "best": Model(None, 0.5)}
    subject = Subject("digits-10shot", digits, test, models, pixel_steps=16)
    counter = PretendedCounter(VoteStore(tmp_path / "votes.db"), "float32", Resources(1, 0.0, 1))
    certified = certify_models(
        subject,
        {name: nn.Identity() for name in models},
        Fixed(10, 100, 0.001),
        seed=7,
        counter=counter,
        advance=lambda votes: None,
    )
    for job, sigma in zip(counter.jobs, (0.12, 0.5), strict=True):
        assert torch.equal(job.images, digits.test.load(job.indices))
        assert job.indices == test.indices
        assert (job.noise, job.seed) == (Noise(sigma, 16), 7)
    expected = list(zip(test.indices, digits.test.labels[test.indices].tolist(), strict=True))
    for of_images in certified.values():
        assert [(one.image_index, one.label) for one in of_images] == expected
