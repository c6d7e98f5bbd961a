"""A small classifier and a few real images for the tests of training."""

from pathlib import Path

import pytest
from torch import Tensor

from trainables.data.datasets import Dataset, TensorImages, load_dataset
from trainables.models.cached import cached_classifier
from trainables.models.classifiers import BaseClassifier


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="session")
def classifier(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> BaseClassifier:
    train = TensorImages(digits.train.load(range(200)), digits.train.labels[:200])
    few = Dataset("digits", digits.classes, train, digits.test)
    cache: Path = tmp_path_factory.mktemp("classifiers")
    return cached_classifier(few, "digits_cnn", cache, lambda _: None)


@pytest.fixture
def images(digits: Dataset) -> Tensor:
    return digits.train.load(range(24))


@pytest.fixture
def labels(digits: Dataset) -> Tensor:
    return digits.train.labels[:24]
