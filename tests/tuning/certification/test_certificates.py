import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainables.data.datasets import load_dataset
from trainables.data.splits import held_out_images
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from tuning.certification.certificates import Certifier
from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Outcome, VoteJob
from tuning.votes.store import VoteStore


class PretendedCounter(VoteCounter):
    """Keeps the jobs and counts nothing."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.jobs: list[VoteJob[Any]] = []

    def voter(self, model: nn.Module, shape: Sequence[int]) -> Voter:
        return Voter(model, "hash")

    async def count(
        self, job: VoteJob[Any], urgency: Urgency, advance: Callable[[int], None]
    ) -> list[Outcome[Any]]:
        self.jobs.append(job)
        return [Outcome(None, 0.0) for _ in job.indices]


def test_all_models_are_certified_on_the_same_test_images_each_under_its_own_sigma(
    tmp_path: Path,
) -> None:
    digits = load_dataset("digits")
    test = held_out_images(digits, 5)
    store, pool = VoteStore(tmp_path / "votes.db"), TaskPool(Resources(1, 0.0, 1))
    counter = PretendedCounter(store, "float32", pool)
    certifier = Certifier("digits-10shot", test, 16, Fixed(10, 100, 0.001), 7, counter)
    assert certifier.votes == 5 * 110
    certified = [
        asyncio.run(certifier.certify(name, nn.Identity(), sigma))
        for name, sigma in (("none", 0.12), ("best", 0.5))
    ]
    for job, sigma in zip(counter.jobs, (0.12, 0.5), strict=True):
        assert torch.equal(job.images, digits.test.load(job.indices))
        assert job.indices == test.indices
        assert (job.noise, job.seed) == (Noise(sigma, 16), 7)
    expected = list(zip(test.indices, digits.test.labels[test.indices].tolist(), strict=True))
    for of_images in certified:
        assert [(one.image_index, one.label) for one in of_images] == expected
