from pathlib import Path

import pytest
import torch

from tests.support.digits import first_digits
from trainables.data.datasets import Dataset
from trainables.models.classifiers import BaseClassifier
from trainables.pretraining.cached import EPOCHS, cached_classifier
from trainables.weights.checkpoint import weights_hash

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def few_digits(digits: Dataset) -> Dataset:
    return first_digits(digits, 200)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("classifiers")


@pytest.fixture(scope="module")
def progress() -> list[int]:
    return []


@pytest.fixture(scope="module")
def classifier(few_digits: Dataset, cache: Path, progress: list[int]) -> BaseClassifier:
    torch.manual_seed(123)
    return cached_classifier(few_digits, "digits_cnn", cache, progress.append)


def test_the_classifier_recognises_digits_it_never_saw(
    classifier: BaseClassifier, few_digits: Dataset
) -> None:
    predicted = classifier(few_digits.test.load(range(500))).argmax(1)
    assert (predicted == few_digits.test.labels).float().mean() > 0.85


def test_every_epoch_is_reported(classifier: BaseClassifier, progress: list[int]) -> None:
    assert classifier.probe(torch.rand(2, 1, 8, 8)) == (10, 64)
    assert progress == [1] * EPOCHS


def test_a_cached_classifier_is_not_trained_again(
    classifier: BaseClassifier, few_digits: Dataset, cache: Path
) -> None:
    calls: list[int] = []
    again = cached_classifier(few_digits, "digits_cnn", cache, calls.append)
    assert calls == []
    assert weights_hash(again) == weights_hash(classifier)
    assert len(list(cache.iterdir())) == 1


def test_training_gives_the_same_weights_whatever_the_global_seed(
    classifier: BaseClassifier, few_digits: Dataset, tmp_path: Path
) -> None:
    torch.manual_seed(456)
    again = cached_classifier(few_digits, "digits_cnn", tmp_path, lambda _: None)
    assert weights_hash(again) == weights_hash(classifier)
