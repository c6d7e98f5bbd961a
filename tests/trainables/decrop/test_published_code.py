"""The defaults train as the published code does: held against an implementation of its own."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from tests.support import plain_decrop as plain
from tests.support.toys import seeded
from trainables.data.datasets import Dataset
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import MemoryStore, generate
from trainables.decrop.training import DecropTraining
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
# Only sizes differ from the published ones: each stage has six epochs of batches of 10, 10 and 4.
SIZES = {"depth": 5, "width": 8, "epochs": 12, "batch_size": 10, "crop_padding": 1, "flip": False}
Step = tuple[Tensor, list[Tensor]]


@pytest.fixture
def images(digits: Dataset) -> Tensor:
    """Images with 256 levels, as the published code has them."""
    return digits.train.load(range(24)).mul(255).round().div(255)


def published(**changes: Any) -> DecropConfig:
    return DecropConfig.model_validate(SIZES | changes)


def expected_samples(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, seed: int
) -> tuple[Tensor, Tensor]:
    """Boundary and interpolated samples, without and with what an image file leaves of them."""
    starts = (2 * torch.rand(images.shape, generator=seeded(seed)) - 1) * 8 / 255
    boundary, between = [], []
    for image, label, start in zip(images, labels.tolist(), starts, strict=True):
        found = plain.boundary_sample(classifier.logits_and_features, image, label, start)
        boundary.append(found)
        between.append(plain.interpolated_sample(classifier.logits_and_features, image, found))
    return torch.stack(boundary), torch.stack(between)


def test_generated_samples_are_those_of_the_published_code(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    samples = generate(classifier, images, labels, DecropConfig(), 3, MemoryStore())
    exact = expected_samples(classifier, images, labels, 3)
    for found, wanted in zip(samples, exact, strict=True):
        assert torch.equal(found, plain.through_an_image_file(wanted))
    # Truncated, an interpolated sample is darker than its image wherever Adam made it darker.
    moved = samples.interpolated - images
    assert 0.2 < (moved != 0).float().mean() < 0.8
    assert set(moved.mul(255).round().unique().tolist()) == {-1, 0}


@pytest.mark.parametrize("eight_bits", ["rounded", "none"])
def test_other_samples_are_not(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, eight_bits: str
) -> None:
    config = published(eight_bits=eight_bits)
    samples = generate(classifier, images, labels, config, 3, MemoryStore())
    for found, wanted in zip(samples, expected_samples(classifier, images, labels, 3), strict=True):
        assert not torch.equal(found, plain.through_an_image_file(wanted))
        kept = wanted.mul(255).round().div(255) if eight_bits == "rounded" else wanted
        assert torch.allclose(found, kept, atol=1e-6)


def watched(training: DecropTraining, monkeypatch: pytest.MonkeyPatch) -> list[Step]:
    """The clean images and the noisy views of each step from now on."""
    steps: list[Step] = []
    passing = training._passing

    def noted(clean: Tensor, noisy: Tensor) -> Any:
        steps.append((clean.clone(), list(noisy.clone().chunk(len(noisy) // len(clean)))))
        return passing(clean, noisy)

    monkeypatch.setattr(training, "_passing", noted)
    return steps


def plain_stage(
    training: DecropTraining, classifier: BaseClassifier, second: bool
) -> plain.PlainStage:
    """A stage of the published code that begins with the present weights of `training`."""
    state, config = training.state_dict(), training.config
    network = plain.dncnn(1, config.depth, config.width)
    plain.load(network, state["network"], "net.")
    judge = None
    if second:
        judge = plain.discriminator(state["discriminator"]["0.weight"].shape[1])
        plain.load(judge, state["discriminator"])
    return plain.PlainStage(network, judge, classifier.logits_and_features, config.epochs // 2)


def last_step(
    training: DecropTraining, classifier: BaseClassifier, monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, float], dict[str, float], float]:
    """Losses of a step, ours and the published ones, and the cosine of the total gradients."""
    second = training.epoch >= training.config.epochs // 2
    stage = plain_stage(training, classifier, second)
    progress = training.epoch % (training.config.epochs // 2) / (training.config.epochs // 2)
    steps = watched(training, monkeypatch)
    found = training.train_epoch()
    ((clean, noisy),) = steps
    expected = stage.step(clean, noisy, progress)
    gradients = plain.gradient(training.denoiser), plain.gradient(stage.network)
    return found, expected, cosine_similarity(*gradients, dim=0).item()


@pytest.mark.parametrize("done", [1, 4, 7, 11])
def test_every_term_and_the_total_gradient_are_those_of_the_published_code(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, done: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    training = DecropTraining(published(batch_size=24), classifier, images, labels, 0)
    for _ in range(done):
        training.train_epoch()
    found, expected, cosine = last_step(training, classifier, monkeypatch)
    assert found == pytest.approx(expected, abs=1e-5)
    assert ("domain" in found) == (done >= 6)
    assert cosine > 0.9999


@pytest.mark.parametrize(
    ("change", "term"),
    [
        ({"normalised_features": False}, "mmd"),
        ({"joined_batch_norm": True}, "label_consistency"),
        ({"norm_eps": 0.01}, "label_consistency"),
        ({"stages": 1, "discriminator_start": 0.75}, "domain"),
    ],
    ids=str,
)
def test_each_departure_from_the_published_code_shows(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, change: dict[str, Any], term: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    config = published(batch_size=24, learning_rate=0.01, **change)
    training = DecropTraining(config, classifier, images, labels, 0)
    for _ in range(7):
        training.train_epoch()
    found, expected, _ = last_step(training, classifier, monkeypatch)
    assert abs(found.get(term, 0) - expected[term]) > 1e-3


def test_a_whole_training_is_the_two_of_the_published_code(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = DecropTraining(published(), classifier, images, labels, 0)
    steps = watched(training, monkeypatch)
    network, differences = None, []
    for second in (False, True):
        stage = plain_stage(training, classifier, second)
        if network is not None:
            # From the weights with which the first one ended, not from ours.
            plain.load(stage.network, network.state_dict())
        network = stage.network
        for epoch in range(6):
            steps.clear()
            found = training.train_epoch()
            assert [len(clean) for clean, _ in steps] == [10, 10, 4]
            losses = [stage.step(*step, (epoch + i / 3) / 6) for i, step in enumerate(steps)]
            stage.schedule.step()
            for name, value in found.items():
                differences.append(abs(value - sum(step[name] for step in losses) / 3))
    assert max(differences) < 1e-3
    assert network is not None
    for name, tensor in network.state_dict().items():
        ours = training.denoiser.state_dict()[f"net.{name}"]
        torch.testing.assert_close(ours, tensor, rtol=1e-2, atol=1e-3, msg=name)
