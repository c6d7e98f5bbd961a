"""A small classifier and a few real images for the tests of training."""

from pathlib import Path

import pytest
from torch import Tensor

from tests.support.digits import first_digits
from trainables.data.datasets import Dataset
from trainables.models.classifiers import BaseClassifier
from trainables.pretraining.cached import cached_classifier


@pytest.fixture(scope="session")
def classifier(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> BaseClassifier:
    cache: Path = tmp_path_factory.mktemp("classifiers")
    return cached_classifier(first_digits(digits, 200), "digits_cnn", cache, lambda _: None)


@pytest.fixture
def images(digits: Dataset) -> Tensor:
    return digits.train.load(range(24))


@pytest.fixture
def labels(digits: Dataset) -> Tensor:
    return digits.train.labels[:24]
