import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.support.sampling import counted, four_images, same, visible
from tests.support.toys import (
    curved_classifier,
    linear_classifier,
    one_pixel_classifier,
    seeded,
)
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig, EightBits
from trainables.decrop.generation import Attack, boundary_samples
from trainables.decrop.samples import BATCH_PIXELS, MemoryStore, _as_stored, generate
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
KINDS: tuple[EightBits, ...] = ("truncated", "rounded", "none")


def test_samples_of_many_images_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BATCH_PIXELS, "cpu", 64)
    images = torch.rand(150, 1, 1, 1, generator=seeded(0))
    labels = torch.arange(len(images)) % 2
    config = DecropConfig(
        attack_radius=0.02, attack_steps=5, step_size=0.01, interpolation_learning_rate=0.01,
        eight_bits="none",
    )  # fmt: skip
    classifier, passes = counted(one_pixel_classifier())
    samples = generate(classifier, images, labels, config, 0, MemoryStore())
    assert max(passes) == 64
    towards = torch.where(labels == 0, -0.02, 0.02)[:, None, None, None]
    assert torch.allclose(samples.boundary, (images + towards).clamp(0, 1), atol=1e-6)
    assert (samples.interpolated - images).abs().max() <= 0.01 + 1e-6


def test_batches_draw_one_random_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    # No two images of 16 pixels fit.
    monkeypatch.setitem(BATCH_PIXELS, "cpu", 31)
    images, labels = torch.rand(5, 1, 4, 4, generator=seeded(1)), torch.arange(5) % 3
    classifier, passes = counted(linear_classifier(16, scale=0.2))
    attack = Attack(0.3, 0.05, 3)
    expected = boundary_samples(classifier, images, labels, attack, seeded(7))
    passes.clear()
    found = generate(classifier, images, labels, visible(), 7, MemoryStore())
    assert passes.count(1) > 10
    assert max(passes) == 2  # the two examples on which folding is tried
    assert torch.allclose(found.boundary, expected, atol=1e-6)


def test_the_seed_alone_decides_the_samples() -> None:
    images, labels = four_images()
    found = []
    for seed, global_seed in ((1, 10), (1, 20), (2, 10)):
        torch.manual_seed(global_seed)
        config = visible(attack_steps=1, step_size=0.001)
        found.append(generate(curved_classifier(), images, labels, config, seed, MemoryStore()))
    assert same(found[0], found[1])
    assert not torch.equal(found[0].boundary, found[2].boundary)


@pytest.mark.parametrize(
    ("eight_bits", "to_level"), [("rounded", np.rint), ("truncated", np.floor)]
)
def test_eight_bit_samples_are_what_an_image_file_can_hold(
    eight_bits: str, to_level: np.ufunc
) -> None:
    images, labels = four_images()
    store = MemoryStore()
    plain = generate(linear_classifier(16), images, labels, visible(), 0, store)
    config = visible(eight_bits=eight_bits)
    found = generate(linear_classifier(16), images, labels, config, 0, store)
    for before, after in zip(plain, found, strict=True):
        file = to_level(before.numpy() * np.float32(255)).astype(np.uint8)
        assert not torch.equal(before, after)
        assert torch.equal(after, torch.from_numpy(file.astype(np.float32) / np.float32(255)))


def test_after_one_step_truncated_samples_are_darker_and_rounded_ones_as_they_were() -> None:
    images = torch.randint(256, (6, 1, 4, 4), generator=seeded(0)) / 255
    labels = torch.arange(6) % 3
    classifier = linear_classifier(16, scale=10)
    found = {
        kind: generate(classifier, images, labels, DecropConfig(eight_bits=kind), 0, MemoryStore())
        for kind in KINDS
    }
    for kind, samples in found.items():
        assert not torch.equal(samples.boundary, images)
        # 8 levels less a rounding error become 7, or 9 below the image.
        levels = 9 if kind == "truncated" else 8
        assert (samples.boundary - images).abs().max() <= levels / 255 + 1e-6
    moved = found["none"].interpolated - images
    assert moved.abs().max().item() == pytest.approx(0.001, rel=1e-3)
    assert torch.equal(found["rounded"].interpolated, images)
    darker = images - (moved < 0) / 255
    assert torch.allclose(found["truncated"].interpolated, darker, atol=1e-6)
    assert 0.2 < (moved < 0).float().mean() < 0.8


def test_images_with_eight_bits_survive_truncation_exactly() -> None:
    levels = torch.arange(256)
    assert torch.equal(_as_stored(levels / 255, "truncated"), levels / 255)


def test_bfloat16_attacks_nearly_as_well_within_the_same_radius(
    classifier: BaseClassifier, images: Tensor, labels: Tensor
) -> None:
    dtypes: set[torch.dtype] = set()
    watched = copy.deepcopy(classifier)
    watched.get_submodule("network.3").register_forward_hook(lambda *a: dtypes.add(a[-1].dtype))
    losses, distances = [], []
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    config = DecropConfig(
        attack_radius=0.1, step_size=0.03, interpolation_steps=5, eight_bits="none"
    )
    for precision in precisions:
        dtypes.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            samples = generate(watched, images, labels, config, 0, MemoryStore())
        assert (torch.bfloat16 in dtypes) == (precision == "bfloat16")
        assert {tensor.dtype for tensor in samples} == {torch.float32}
        assert (samples.boundary - images).abs().max() <= 0.1 + 1e-6
        assert samples.boundary.min() >= 0
        assert samples.boundary.max() <= 1
        losses.append(F.cross_entropy(classifier(samples.boundary), labels).item())
        target = 0.8 * classifier(images) + 0.2 * classifier(samples.boundary)
        distances.append(F.mse_loss(classifier(samples.interpolated), target).item())
    assert losses[0] > 10 * F.cross_entropy(classifier(images), labels).item()
    assert losses[1] == pytest.approx(losses[0], rel=0.05)
    assert distances[1] == pytest.approx(distances[0], rel=0.1)
    before = F.mse_loss(classifier(images), target).item()
    assert max(distances) < before
