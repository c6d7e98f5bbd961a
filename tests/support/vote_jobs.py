"""A small job of votes, and what came of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from trainables.smoothing.certify import Request
from trainables.smoothing.noise import Noise
from tuning.cluster.resources import Resources
from tuning.votes.job import Evaluation, Outcome, VoteJob

SIGMA, VOTES, SEED = 0.5, 2500, 11


def model() -> nn.Module:
    """A linear network for images of 4 x 4 pixels and three classes."""
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(16, 3)
    with torch.no_grad():
        linear.weight.copy_(torch.randn((3, 16), generator=generator))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def casting(votes: int = VOTES, phase: str = "estimate") -> Evaluation[list[int]]:
    """The same number of votes for every image."""
    return (yield Request(phase, 0, votes))


def job(
    indices: range = range(6), evaluate: Callable[[], Evaluation[Any]] = casting, most: int = VOTES
) -> VoteJob[Any]:
    """Votes of the model on up to six images."""
    images = torch.rand((6, 1, 4, 4), generator=torch.Generator().manual_seed(1))
    return VoteJob(
        "x", model(), "hash", images[list(indices)], indices, Noise(SIGMA), SEED, evaluate, most
    )


def workers(count: int) -> Resources:
    """So many, of a core each."""
    return Resources(cpus_per_trial=1, gpus_per_trial=0.0, concurrency=count)


def results(outcomes: list[list[Outcome[Any]]]) -> list[list[Any]]:
    """Those of each image of each job."""
    return [[outcome.result for outcome in of_job] for of_job in outcomes]
