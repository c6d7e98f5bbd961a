from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.support.toys import (
    curved_classifier,
    linear_classifier,
    one_pixel_classifier,
    random_images,
    seeded,
)
from trainables.decrop.generation import Attack, boundary_samples, interpolated_samples
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    radius=st.floats(0, 1),
    step_size=st.floats(1e-3, 1),
    steps=st.integers(1, 6),
)
def test_boundary_samples_stay_in_the_ball_and_in_the_pixel_range(
    seed: int, radius: float, step_size: float, steps: int
) -> None:
    images = random_images(5, seed)
    images[0], images[1] = 0.0, 1.0
    labels = torch.tensor([0, 1, 2, 0, 1])
    samples = boundary_samples(
        curved_classifier(), images, labels, Attack(radius, step_size, steps), seeded(seed)
    )
    assert samples.shape == images.shape
    assert not samples.requires_grad
    assert (samples - images).abs().max() <= radius + 1e-6
    assert samples.min() >= 0
    assert samples.max() <= 1


@pytest.mark.parametrize(
    ("pixel", "label", "expected"),
    [(0.5, 0, 0.4), (0.5, 1, 0.6), (0.05, 0, 0.0), (0.97, 1, 1.0)],
)
def test_the_attack_on_one_pixel_ends_at_the_end_of_its_interval(
    pixel: float, label: int, expected: float
) -> None:
    sample = boundary_samples(
        one_pixel_classifier(),
        torch.full((1, 1, 1, 1), pixel),
        torch.tensor([label]),
        Attack(0.1, 0.03, 10),
        seeded(0),
    )
    assert sample.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("classifier", [linear_classifier(16), curved_classifier()])
def test_the_attack_raises_the_loss_of_every_image(classifier: BaseClassifier) -> None:
    images, labels = random_images(20), torch.arange(20) % 3
    samples = boundary_samples(classifier, images, labels, Attack(0.1, 0.02, 20), seeded(0))
    before = F.cross_entropy(classifier(images), labels, reduction="none")
    after = F.cross_entropy(classifier(samples), labels, reduction="none")
    assert (after > before).all()


def test_a_batch_is_attacked_like_its_images_one_by_one() -> None:
    images, labels, classifier = random_images(6), torch.arange(6) % 3, curved_classifier()
    attack = Attack(0.1, 0.02, 7)
    together = boundary_samples(classifier, images, labels, attack, seeded(3))
    generator = seeded(3)
    alone = [
        boundary_samples(classifier, x[None], y[None], attack, generator)
        for x, y in zip(images, labels, strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)


def test_the_attack_starts_anywhere_in_the_ball() -> None:
    images = torch.full((1, 1, 64, 64), 0.5)
    flat = BaseClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4096, 2)))
    nn.init.zeros_(flat.get_parameter("network.1.weight"))
    moves = (
        boundary_samples(flat, images, torch.tensor([0]), Attack(0.2, 0.1, 1), seeded(0)) - images
    )
    # The gradient is zero, so what is left is the random start: uniform in [-0.2, 0.2].
    assert moves.abs().max() > 0.199
    assert moves.mean().abs() < 0.01
    assert moves.std().item() == pytest.approx(0.2 / 3**0.5, rel=0.05)


def test_the_seed_alone_decides_the_attack() -> None:
    images, labels, classifier = random_images(4), torch.tensor([0, 1, 2, 0]), curved_classifier()
    attack = Attack(0.1, 0.001, 2)
    first, again, other = (
        boundary_samples(classifier, images, labels, attack, seeded(seed)) for seed in (5, 5, 6)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_attack_leaves_no_gradient_on_the_classifier_or_the_images() -> None:
    classifier, images = curved_classifier(), random_images(2)
    boundary_samples(classifier, images, torch.tensor([0, 1]), Attack(0.1, 0.02, 3), seeded(0))
    assert images.grad is None
    assert not images.requires_grad
    assert all(p.grad is None for p in classifier.parameters())


@pytest.mark.parametrize("mix", [0.0, 0.5, 0.8])
def test_interpolation_reaches_the_mixed_logits_of_a_linear_classifier(mix: float) -> None:
    classifier = linear_classifier(16, scale=20)
    images = 0.3 + 0.4 * random_images(5)
    boundary = images + 0.5 * (2 * random_images(5, seed=2) - 1)
    samples = interpolated_samples(
        classifier, images, boundary, mix=mix, steps=500, learning_rate=0.003
    )
    target = mix * classifier(images) + (1 - mix) * classifier(boundary)
    before = (classifier(images) - target).square().mean(dim=1)
    after = (classifier(samples) - target).square().mean(dim=1)
    assert before.min() > 5
    assert (after < 0.01 * before).all()


@pytest.mark.parametrize("learning_rate", [0.001, 0.02])
def test_one_interpolation_step_moves_each_pixel_by_the_learning_rate(learning_rate: float) -> None:
    classifier, images = linear_classifier(16, scale=10), 0.3 + 0.4 * random_images(5)
    boundary = images.flip(0)
    boundary[2] = 1 - images[2]
    samples = interpolated_samples(
        classifier, images, boundary, mix=0.5, steps=1, learning_rate=learning_rate
    )
    moves = (samples - images).abs()
    assert torch.allclose(moves, torch.full_like(moves, learning_rate), rtol=1e-3)


def test_interpolation_steps_towards_the_mixed_logits() -> None:
    classifier, images = linear_classifier(16, scale=10), 0.3 + 0.4 * random_images(6)
    boundary = images.roll(1, 0)
    samples = interpolated_samples(
        classifier, images, boundary, mix=0.8, steps=1, learning_rate=1e-3
    )
    target = 0.8 * classifier(images) + 0.2 * classifier(boundary)
    before = (classifier(images) - target).square().mean(dim=1)
    assert ((classifier(samples) - target).square().mean(dim=1) < before).all()


def test_interpolation_with_full_weight_on_the_image_stays_there() -> None:
    images = random_images(4)
    samples = interpolated_samples(
        linear_classifier(16), images, images.flip(0), mix=1.0, steps=10, learning_rate=0.01
    )
    assert torch.allclose(samples, images, atol=1e-4)


def test_an_image_that_stops_early_does_not_disturb_the_others() -> None:
    classifier, images = linear_classifier(16, scale=5), 0.3 + 0.4 * random_images(5)
    boundary = images + 0.2 * (2 * random_images(5, seed=2) - 1)
    boundary[1] = images[1]
    boundary[3] = images[3] + 0.005
    interpolate = partial(interpolated_samples, mix=0.3, steps=60, learning_rate=0.004)
    together = interpolate(classifier, images, boundary)
    alone = [
        interpolate(classifier, x[None], b[None]) for x, b in zip(images, boundary, strict=True)
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-5)
    assert (together[0] - images[0]).abs().max() > (together[3] - images[3]).abs().max()


def test_an_image_stops_once_its_loss_changes_by_less_than_the_tolerance() -> None:
    classifier, images = linear_classifier(16, scale=1e-3), random_images(3)
    few, many = (
        interpolated_samples(
            classifier, images, images.flip(0), mix=0.0, steps=steps, learning_rate=1e-3
        )
        for steps in (1, 50)
    )
    assert torch.equal(few, many)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    mix=st.floats(0, 1),
    steps=st.integers(1, 5),
    learning_rate=st.floats(1e-3, 1),
)
def test_interpolated_samples_stay_in_the_pixel_range(
    seed: int, mix: float, steps: int, learning_rate: float
) -> None:
    images = random_images(3, seed)
    samples = interpolated_samples(
        linear_classifier(16, scale=10), images, images.flip(0),
        mix=mix, steps=steps, learning_rate=learning_rate,
    )  # fmt: skip
    assert samples.min() >= 0
    assert samples.max() <= 1
