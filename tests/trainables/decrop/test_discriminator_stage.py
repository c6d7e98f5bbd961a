import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.small_networks import config
from trainables.decrop.training import DecropTraining
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
# The discriminator takes part from the first step on.
JOINT: dict[str, Any] = {"stages": 1, "discriminator_start": 0}


@pytest.mark.parametrize(
    ("stages", "start", "strength", "epochs"),
    [
        (1, 0.75, 2, [4]), (1, 0.5, 2, [3, 4]), (1, 0, 2, [1, 2, 3, 4]), (1, 1, 2, []),
        (1, 0.5, 0, []), (2, 0.75, 2, [3, 4]), (2, 0, 2, [3, 4]), (2, 0.75, 0, []),
    ],
)  # fmt: skip
def test_the_discriminator_joins_at_its_start_and_learns_only_from_then_on(
    classifier: BaseClassifier, images: Tensor, labels: Tensor,
    stages: int, start: float, strength: float, epochs: list[int],
) -> None:  # fmt: skip
    chosen = config(stages=stages, discriminator_start=start, reversal_strength=strength)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    joined, learned = [], []
    for epoch in range(1, 5):
        before = copy.deepcopy(training.state_dict()["discriminator"])
        if "domain" in training.train_epoch():
            joined.append(epoch)
        after = training.state_dict()["discriminator"]
        if any(not torch.equal(before[name], after[name]) for name in before):
            learned.append(epoch)
    assert joined == learned == epochs


@pytest.mark.parametrize(("stages", "start"), [(1, 0.0), (1, 0.5), (1, 0.75), (2, 0.5)])
def test_the_reversal_grows_from_nothing_within_the_epochs_of_the_discriminator(
    classifier: BaseClassifier, images: Tensor, labels: Tensor,
    stages: int, start: float, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    strengths: list[float] = []

    def noted(features: Tensor, strength: float) -> Tensor:
        strengths.append(strength)
        return features

    monkeypatch.setattr("trainables.decrop.training.reverse_gradient", noted)
    chosen = config(stages=stages, discriminator_start=start, reversal_strength=2.0)
    training = DecropTraining(chosen, classifier, images, labels, 0)
    for _ in range(4):
        training.train_epoch()
    # Four epochs of three batches. 2 / (1 + exp(-10 p)) - 1 is tanh(5 p).
    shares = [(step / 12 - start) / (1 - start) for step in range(12) if step / 12 >= start]
    assert strengths == pytest.approx([2 * math.tanh(5 * share) for share in shares])


def test_the_discriminator_starts_near_chance(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    training = DecropTraining(config(**JOINT), classifier, images, labels, 0)
    assert training.train_epoch()["domain"] == pytest.approx(math.log(2), abs=0.4)


def test_following_the_reversed_gradient_confuses_the_discriminator(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    def start(strength: float) -> DecropTraining:
        chosen = config(**JOINT, batch_size=24, epochs=2, reversal_strength=strength)
        return DecropTraining(chosen, classifier, images, labels, 0)

    first = start(2.0)
    first.train_epoch()
    state = copy.deepcopy(first.state_dict())

    def second_epoch(strength: float, shifts: list[Tensor]) -> tuple[float, list[Tensor]]:
        training = start(strength)
        training.load_state_dict(copy.deepcopy(state))
        parameters = list(training.denoiser.parameters())
        with torch.no_grad():
            for parameter, shift in zip(parameters, shifts, strict=True):
                parameter.add_(shift)
        losses = training.train_epoch()
        gradients = [p.grad.clone() for p in parameters if p.grad is not None]
        return losses.get("domain", math.nan), gradients

    still = [torch.zeros_like(p) for p in first.denoiser.parameters()]
    _, without = second_epoch(0.0, still)
    domain, with_reversal = second_epoch(2.0, still)
    pull = [a - b for a, b in zip(with_reversal, without, strict=True)]
    step = 0.02 / torch.cat([p.flatten() for p in pull]).norm()
    descended, _ = second_epoch(2.0, [-step * p for p in pull])
    ascended, _ = second_epoch(2.0, [step * p for p in pull])
    assert ascended < domain < descended


def test_reversal_pulls_on_the_denoiser_in_proportion_to_its_strength(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    gradients = []
    for strength in (0.0, 1.0, 2.0):
        chosen = config(**JOINT, batch_size=24, epochs=2, reversal_strength=strength)
        training = DecropTraining(chosen, classifier, images, labels, 0)
        steps = []
        for _ in range(2):
            training.train_epoch()
            parts = [p.grad.flatten() for p in training.denoiser.parameters() if p.grad is not None]
            steps.append(torch.cat(parts))
        gradients.append(steps)
    (first_none, none), (first_single, single), (_, double) = gradients
    assert torch.allclose(first_none, first_single, atol=1e-6)
    assert (single - none).abs().max() > 1e-4
    assert torch.allclose(double - none, 2 * (single - none), atol=1e-4)
