"""The order of the classes of a data set."""

import pytest
import torch

from tests.support.refusal import refusal
from trainables.data.class_order import NATURAL, in_order
from trainables.data.images import Dataset, TensorImages

CLASSES = ("1", "10", "2", "b9", "b10")


def dataset() -> Dataset:
    """One image of each class, whose pixel is the class's position in `CLASSES`."""
    images = TensorImages(torch.arange(5.0).view(5, 1, 1, 1) / 10, torch.arange(5))
    return Dataset("folder", CLASSES, images, images)


@pytest.mark.parametrize(
    "order", [("2", "b9", "1", "b10", "10"), ("1", "2", "10", "b9", "b10"), CLASSES]
)
def test_images_keep_their_class_when_it_gets_a_different_number(order: tuple[str, ...]) -> None:
    ordered = in_order(dataset(), order)
    assert ordered.classes == order
    for side in (ordered.train, ordered.test):
        pixels = side.load(range(5)).flatten()
        for pixel, label in zip(pixels.tolist(), side.labels.tolist(), strict=True):
            assert CLASSES[round(10 * pixel)] == order[label]


def test_numbers_in_names_count_as_numbers_in_the_natural_order() -> None:
    assert in_order(dataset(), [NATURAL]).classes == ("1", "2", "10", "b9", "b10")


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (("1", "2"), "class_order: 2 of the 5 classes are named; '10' is missing"),
        (("1", "2", "10", "b9", "b9"), "'b9' is named twice"),
        (("1", "2", "10", "b9", "b11"), "has no class 'b11'; did you mean b10"),
    ],
)
def test_an_order_that_is_not_of_the_classes_is_refused(order: tuple[str, ...], said: str) -> None:
    assert said in refusal(lambda: in_order(dataset(), order))
