"""The data set that comes with the package."""

import pytest

from trainables.data.datasets import Dataset, load_dataset


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")
