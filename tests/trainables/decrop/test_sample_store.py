import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.sampling import counted, four_images, same, visible
from tests.support.toys import curved_classifier, linear_classifier, seeded
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import GeneratedSamples, MemoryStore, generate
from trainables.models.classifiers import BaseClassifier

torch.set_num_threads(1)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
# Another value for each hyperparameter, by what it changes.
OF_BOUNDARY: dict[str, Any] = {
    "attack_radius": 0.1, "step_size": 0.2, "attack_steps": 9,
}  # fmt: skip
OF_INTERPOLATION: dict[str, Any] = {
    "mix": 1.0, "interpolation_steps": 1, "interpolation_learning_rate": 0.1,
}  # fmt: skip
OF_NEITHER: dict[str, Any] = {
    "sigma": 1.0, "w_label": 2, "w_mse": 1, "w_cosine": 3, "w_mmd": 3, "reversal_strength": 1,
    "discriminator_start": 0.1, "discriminator_learning_rate": 0.01, "eight_bits": "rounded",
    "normalised_features": False, "norm_eps": 0.1, "norm_momentum": 0.5, "joined_batch_norm": True,
    "stages": 1, "equal_batches": True,
    "crop_padding": 2, "flip": False, "paired_augmentation": True, "denoiser": "unet", "width": 5,
    "depth": 4, "memory_blocks": 1, "residual_blocks": 1, "levels": 2, "epochs": 7,
    "batch_size": 9, "learning_rate": 0.1, "weight_decay": 0, "schedule": "cosine",
    "lr_decay": 0.5, "ema_decay": 0.9,
}  # fmt: skip


class ForgetfulStore:
    """Forgets everything at once."""

    def get(self, key: str) -> Tensor | None:
        return None

    def put(self, key: str, samples: Tensor) -> None:
        pass


class FolderStore:
    """Samples in a folder; `together` holds the first two readers back until both have read."""

    def __init__(self, folder: Path, together: threading.Barrier | None = None) -> None:
        self.folder, self.together = folder, together
        self.writes: list[str] = []

    def get(self, key: str) -> Tensor | None:
        path = self.folder / key
        found: Tensor | None = torch.load(path) if path.is_file() else None
        if self.together is not None:
            self.together.wait(timeout=300)
        return found

    def put(self, key: str, samples: Tensor) -> None:
        part = self.folder / f"{key}.{threading.get_ident()}.part"
        torch.save(samples, part)
        part.replace(self.folder / key)
        self.writes.append(key)


class CpuStore(MemoryStore):
    """Keeps samples on the CPU, wherever they come from."""

    def put(self, key: str, samples: Tensor) -> None:
        super().put(key, samples.cpu())


def convolutional_classifier() -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(),
            nn.Flatten(), nn.Linear(48, 3),
        )  # fmt: skip
    return BaseClassifier(network, mean=(0.4,), std=(0.2,))


def keys(
    config: DecropConfig,
    classifier: BaseClassifier | None = None,
    images: Tensor | None = None,
    labels: Tensor | None = None,
    seed: int = 0,
    precision: Precision = "float32",
) -> list[str]:
    """The keys of the boundary and of the interpolated samples."""
    store = MemoryStore()
    classifier = convolutional_classifier() if classifier is None else classifier
    x, y = four_images()
    images, labels = x if images is None else images, y if labels is None else labels
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        generate(classifier, images, labels, config, seed, store)
    return list(store)


def test_generation_uses_every_hyperparameter_of_the_configuration() -> None:
    images, labels = four_images()
    classifier = linear_classifier(16, scale=10)
    reference = generate(classifier, images, labels, visible(), 0, MemoryStore())
    for name, value in (OF_BOUNDARY | OF_INTERPOLATION).items():
        changed = generate(classifier, images, labels, visible(**{name: value}), 0, MemoryStore())
        moved = [not torch.equal(a, b) for a, b in zip(reference, changed, strict=True)]
        assert any(moved), name
        if name in OF_INTERPOLATION:
            assert moved == [False, True], name


@pytest.mark.parametrize("name", DecropConfig.model_fields)
def test_a_key_holds_the_hyperparameters_of_generation_and_no_others(name: str) -> None:
    value = (OF_BOUNDARY | OF_INTERPOLATION | OF_NEITHER)[name]
    assert getattr(visible(), name) != value
    before, after = keys(visible()), keys(visible(**{name: value}))
    changed = [a != b for a, b in zip(before, after, strict=True)]
    assert changed == [name in OF_BOUNDARY, name in OF_BOUNDARY | OF_INTERPOLATION]


def test_a_key_changes_with_every_input() -> None:
    images, labels = four_images()
    classifiers = [convolutional_classifier() for _ in range(7)]
    with torch.no_grad():
        classifiers[1].get_parameter("network.0.weight")[2, 0, 1, 1] += 1e-3
        classifiers[2].get_parameter("network.4.bias")[1] += 1e-3
        classifiers[3].get_buffer("network.1.running_var")[0] += 1e-3
        classifiers[4].mean += 1e-3
        classifiers[5].std += 1e-3
    brighter, relabelled = images.clone(), labels.clone()
    brighter[3, 0, 2, 1] += 1e-3
    relabelled[2] = 1
    found = [
        *(keys(visible(), classifier) for classifier in classifiers[:6]),
        keys(visible(), images=brighter),
        keys(visible(), labels=relabelled),
        keys(visible(), images=images.flip(0)),
        keys(visible(), images=images[:3], labels=labels[:3]),
        keys(visible(), linear_classifier(16)),
        keys(visible(), linear_classifier(16), images=images.reshape(4, 1, 2, 8)),
        keys(visible(), linear_classifier(16), images=images.reshape(4, 4, 2, 2)),
        keys(visible(), seed=1),
        keys(visible(), seed=-1),
        keys(visible(), precision="bfloat16"),
    ]
    assert len({key for pair in found for key in pair}) == 2 * len(found)
    assert keys(visible(), classifiers[6], images.clone(), labels.clone()) == found[0]


def test_a_key_does_not_depend_on_how_the_images_lie_in_memory() -> None:
    images = torch.rand(4, 2, 2, 4, generator=seeded(0))
    scattered = images.to(memory_format=torch.channels_last)
    assert images.stride() != scattered.stride()
    first, second = (keys(visible(), linear_classifier(16), images=x) for x in (images, scattered))
    assert first == second


def test_samples_made_before_are_not_made_again() -> None:
    images, labels = four_images()
    classifier, passes = counted(convolutional_classifier())
    store = MemoryStore()
    first = generate(classifier, images, labels, visible(), 0, store)
    made = len(passes)
    second = generate(classifier, images, labels, visible(), 0, store)
    assert made >= 3 + 2 + 2
    assert len(passes) == made
    assert same(first, second)


@pytest.mark.parametrize("device", DEVICES)
def test_another_mix_shares_the_boundary_samples(device: str) -> None:
    images, labels = (tensor.to(device) for tensor in four_images())
    classifier, passes = counted(linear_classifier(16, scale=10).to(device))
    store = CpuStore()
    first = generate(classifier, images, labels, visible(attack_steps=100), 0, store)
    passes.clear()
    second = generate(classifier, images, labels, visible(attack_steps=100, mix=0.1), 0, store)
    assert len(passes) < 20
    assert torch.equal(first.boundary, second.boundary)
    assert not torch.equal(first.interpolated, second.interpolated)
    assert len(store) == 3
    assert {tensor.device.type for tensor in (*first, *second)} == {device}


def test_a_store_that_forgets_costs_time_alone() -> None:
    images, labels = four_images()
    classifier, passes = counted(curved_classifier())
    remembered = generate(classifier, images, labels, visible(), 0, MemoryStore())
    made = len(passes)
    for _ in range(2):
        assert same(
            generate(classifier, images, labels, visible(), 0, ForgetfulStore()), remembered
        )
    assert len(passes) == 3 * made


def test_two_writers_of_the_same_samples_do_no_harm(tmp_path: Path) -> None:
    images, labels = four_images()
    expected = generate(curved_classifier(), images, labels, visible(), 0, MemoryStore())
    store = FolderStore(tmp_path, threading.Barrier(2))

    def work(classifier: BaseClassifier) -> GeneratedSamples:
        torch.set_num_threads(1)
        return generate(classifier, images, labels, visible(), 0, store)

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(work, [curved_classifier(), curved_classifier()]))
    assert len(store.writes) == 4
    assert all(same(samples, expected) for samples in found)
    reader = FolderStore(tmp_path)
    assert same(generate(curved_classifier(), images, labels, visible(), 0, reader), expected)
    assert not reader.writes
    assert len(list(tmp_path.iterdir())) == 2
