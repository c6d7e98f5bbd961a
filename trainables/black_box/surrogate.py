"""A surrogate of a classifier that only answers queries; gradients can pass through it.

Sources: Hinton, Vinyals and Dean 2015 (distillation); Papernot et al. 2017 (queries near the
surrogate's own boundary, in rounds).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.black_box.queries import Queries
from trainables.decrop.generation import Attack, boundary_samples
from trainables.errors import InputError
from trainables.models.architectures import PlainCNN
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.noise import derive_seed
from trainables.torch_internals import Adam

BATCH = 64
LEARNING_RATE = 5e-3
# In standard deviations of the logits, so that logits of any scale give soft targets.
TEMPERATURE = 3.0
# Shares of the queries; the rest are boundary samples.
NOISY, NOISY_MIXED, MIXED = 0.7, 0.1, 0.1
ATTACK_RADIUS = 0.1
ATTACK_STEPS = 10
# One in this many answered queries measures the agreement instead of training the surrogate.
HELD_OUT = 10


class Effort(NamedTuple):
    """Rounds of queries, and the epochs of training after each of them."""

    rounds: int = 3
    epochs: int = 8

    @property
    def total(self) -> int:
        """The epochs of all rounds."""
        return self.rounds * self.epochs


EFFORT = Effort()


class Surrogate(NamedTuple):
    """A surrogate, and the share of held-out queries on which it agrees with the classifier."""

    classifier: BaseClassifier
    agreement: float


def distill(
    queries: Queries,
    images: Tensor,
    *,
    sigmas: tuple[float, float],
    seed: int,
    effort: Effort = EFFORT,
    progress: Callable[[int], None] = lambda done: None,
) -> Surrogate:
    """Train a surrogate on the answers to the whole query budget.

    `images` [n, C, H, W] in [0, 1] are asked as they are, then with noise of a sigma between the
    two `sigmas`, mixed in pairs, and moved to the surrogate's boundary. `progress` is called with 1
    after each of the `effort.total` epochs. Everything random comes from `seed`. The queries depend
    on the whole budget, not on what is left of it, so that a resumed training asks the same ones.

    Raises:
        InputError: when the budget is smaller than the number of images, or the classifier fails.
        QueryBudgetSpent: when other queries have used part of the budget.
    """
    check_budget(queries.budget, len(images))
    generator = torch.Generator().manual_seed(seed)
    images = images.detach()
    samples, answers = images, queries.ask(images)
    surrogate = _untrained(images, answers.shape[1], seed)
    further = queries.budget - len(images)
    for number in range(effort.rounds):
        size = further * (number + 1) // effort.rounds - further * number // effort.rounds
        if size:
            fresh = _samples(surrogate, images, size, sigmas, generator)
            samples = torch.cat((samples, fresh))
            answers = torch.cat((answers, queries.ask(fresh)))
        held_out = torch.arange(len(samples)) % HELD_OUT == 0
        _train(
            surrogate, samples[~held_out], answers[~held_out], effort.epochs, generator, progress
        )
    return Surrogate(surrogate, _agreement(surrogate, samples[held_out], answers[held_out]))


def check_budget(budget: int, images: int) -> None:
    """Refuse a query budget that is too small to ask about each training image once.

    Raises:
        InputError: saying how many queries are enough.
    """
    if budget < images:
        raise InputError(
            f"{budget} is too small for {images} training images, each of which is asked about "
            f"once; pass {images} or more",
            field="query_budget",
        )


def _untrained(images: Tensor, classes: int, seed: int) -> BaseClassifier:
    channels, size = images.shape[1], min(images.shape[2:])
    with torch.random.fork_rng(devices=[]):
        # Not the seed itself: a classifier trained from that seed has the same initial weights.
        torch.manual_seed(derive_seed(seed, "surrogate"))
        network = PlainCNN(channels, classes, _convolutions(size))
    std, mean = torch.std_mean(images, dim=(0, 2, 3), correction=0)
    # A channel that is the same in all images has only rounding errors to divide by.
    std = torch.where(std > 1e-3, std, 1.0)
    return BaseClassifier(network, mean.tolist(), std.tolist()).to(images.device)


def _convolutions(size: int) -> list[tuple[int, int]]:
    """Channels and strides for images of this height or width; larger ones shrink more."""
    if size < 16:
        return [(64, 1), (64, 2), (64, 1), (64, 1)]
    halvings = max(0, int(math.log2(size / 32)))
    return [(16, 2)] * halvings + [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]


def _samples(
    surrogate: BaseClassifier,
    images: Tensor,
    size: int,
    sigmas: tuple[float, float],
    generator: torch.Generator,
) -> Tensor:
    """New queries [size, C, H, W]: noisy copies, mixed pairs, and boundary samples."""

    def uniform() -> Tensor:
        return torch.rand((size, 1, 1, 1), generator=generator).to(images.device)

    first, second = (
        images[torch.randint(len(images), (size,), generator=generator)] for _ in range(2)
    )
    kind, weight, low_to_high = uniform(), uniform(), uniform()
    weight = torch.where(kind < NOISY, 1.0, weight)
    mixed = weight * first + (1 - weight) * second
    sigma = sigmas[0] * (sigmas[1] / sigmas[0]) ** low_to_high
    noise = sigma * torch.randn(mixed.shape, generator=generator).to(images.device)
    samples = torch.where(kind < NOISY + NOISY_MIXED, mixed + noise, mixed)
    attacked = (kind >= NOISY + NOISY_MIXED + MIXED).flatten()
    samples[attacked] = _boundary(surrogate, mixed[attacked], generator)
    return samples


def _boundary(surrogate: BaseClassifier, images: Tensor, generator: torch.Generator) -> Tensor:
    parts = [
        boundary_samples(
            surrogate,
            part,
            surrogate(part).argmax(dim=1),
            Attack(ATTACK_RADIUS, ATTACK_RADIUS / 4, ATTACK_STEPS),
            generator,
        )
        for part in images.split(BATCH)
    ]
    return torch.cat(parts)


def _train(
    surrogate: BaseClassifier,
    samples: Tensor,
    answers: Tensor,
    epochs: int,
    generator: torch.Generator,
    progress: Callable[[int], None],
) -> None:
    temperature, targets = _targets(answers)
    network = surrogate.network.requires_grad_(True).train()
    adam = Adam(network.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, epochs)
    for _ in range(epochs):
        order = torch.randperm(len(samples), generator=generator)
        for batch in order.tensor_split(math.ceil(len(order) / BATCH)):
            adam.zero_grad()
            # Up to a constant, the KL divergence from the targets.
            F.cross_entropy(surrogate(samples[batch]) / temperature, targets[batch]).backward()
            adam.step()
        schedule.step()
        progress(1)
    network.requires_grad_(False).eval()


def _targets(answers: Tensor) -> tuple[float, Tensor]:
    """Temperature and target probabilities [n, classes] for answers that are labels or logits."""
    if ((answers == 0) | (answers == 1)).all() and (answers.sum(dim=1) == 1).all():
        return 1.0, answers
    temperature = TEMPERATURE * float(answers.std(dim=1).mean().clamp_min(1e-6))
    return temperature, F.softmax(answers / temperature, dim=1)


@torch.no_grad()
def _agreement(surrogate: BaseClassifier, samples: Tensor, answers: Tensor) -> float:
    labels = [surrogate(part).argmax(dim=1) for part in samples.split(BATCH)]
    return float((torch.cat(labels) == answers.argmax(dim=1)).float().mean())
