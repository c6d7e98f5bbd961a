import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import ray
import torch

from trainables.data.datasets import load_dataset
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import generate
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from tuning.search.samples import SharedSamples

pytestmark = pytest.mark.usefixtures("local_ray")
CONFIG = DecropConfig(attack_steps=2)


@ray.remote(max_retries=0)
def generate_there(
    samples: SharedSamples, classifier: BaseClassifier, there: Path, workers: int
) -> tuple[list[torch.Tensor], int]:
    """Generate once so many `workers` have signed in `there`; with the passes that took."""
    torch.set_num_threads(1)
    passes: list[int] = []
    # The working copy of the classifier inherits the hook.
    classifier.network.register_forward_hook(lambda *_: passes.append(1))
    train = load_dataset("digits").train
    (there / uuid4().hex).touch()
    while len(list(there.iterdir())) < workers:
        time.sleep(0.01)
    made = generate(classifier, train.load(range(6)), train.labels[:6], CONFIG, 0, samples)
    return list(made), len(passes)


@pytest.fixture(scope="module")
def classifier() -> BaseClassifier:
    torch.manual_seed(0)
    return BaseClassifier(DigitsCNN())


def test_workers_at_the_same_time_and_later_ones_get_the_same_samples(
    classifier: BaseClassifier, tmp_path: Path
) -> None:
    samples = SharedSamples()
    both = [generate_there.remote(samples, classifier, tmp_path, 2) for _ in range(2)]
    (first, passes), (second, others) = ray.get(both)
    later, fewer = ray.get(generate_there.remote(samples, classifier, tmp_path, 0))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, later, strict=True))
    # What is left are the passes that check the folded copy of the classifier.
    assert max(passes, others) - fewer >= CONFIG.attack_steps


def test_samples_outlive_the_worker_that_made_them() -> None:
    @ray.remote
    class Worker:
        def put(self, samples: SharedSamples) -> None:
            samples.put("key", torch.arange(5.0))

    actor: Any = Worker
    samples, worker = SharedSamples(), actor.remote()
    ray.get(worker.put.remote(samples))
    ray.kill(worker)
    found = samples.get("key")
    assert found is not None
    assert torch.equal(found, torch.arange(5.0))
    found += 1
    again = samples.get("key")
    assert again is not None
    assert torch.equal(again, torch.arange(5.0))


def test_first_writer_wins_and_the_least_recently_used_make_room() -> None:
    samples = SharedSamples(shelf_bytes=3 * 40)
    for value, key in enumerate("abc"):
        samples.put(key, torch.full((10,), float(value)))
    samples.put("a", torch.full((10,), 9.0))
    first = samples.get("a")
    assert first is not None
    assert first[0] == 0
    samples.put("d", torch.zeros(10))
    assert samples.get("b") is None
    assert samples.get("a") is not None


def test_lost_store_costs_time_and_no_trial(classifier: BaseClassifier, tmp_path: Path) -> None:
    samples = SharedSamples()
    ray.kill(samples._shelf)
    assert samples.get("key") is None
    samples.put("key", torch.zeros(3))
    made, _ = ray.get(generate_there.remote(samples, classifier, tmp_path, 0))
    assert made[0].shape == (6, 1, 8, 8)
