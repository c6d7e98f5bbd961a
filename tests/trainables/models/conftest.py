"""A classifier of each kind that this project trains, and images that it takes."""

import pytest
from torch import Tensor

from tests.support.classifiers import build, random_images
from trainables.models.classifiers import BaseClassifier


@pytest.fixture(params=["digits_cnn", "cifar_resnet20"])
def classifier(request: pytest.FixtureRequest) -> BaseClassifier:
    return build(request.param)


@pytest.fixture
def images(classifier: BaseClassifier) -> Tensor:
    return random_images((4, 1, 8, 8) if classifier.mean.numel() == 1 else (4, 3, 16, 16))
