"""Few digits, for a classifier that is trained within a second."""

from trainables.data.datasets import Dataset, TensorImages


def first_digits(digits: Dataset, count: int) -> Dataset:
    """The data set with no more than its first `count` training images."""
    train = TensorImages(digits.train.load(range(count)), digits.train.labels[:count])
    return Dataset(digits.name, digits.classes, train, digits.test)
