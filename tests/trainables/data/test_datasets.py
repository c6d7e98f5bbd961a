from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from tests.support.refusal import refusal
from trainables.data.datasets import DATASETS, Dataset, load_dataset
from trainables.data.images import say_notes


def test_notes_about_a_data_set_are_said_once(digits: Dataset) -> None:
    lines: list[str] = []
    noted = replace(digits, notes=("left out 1 hidden file", "made 2 images grey"))
    say_notes([digits, noted, noted], lines.append)
    assert lines == ["digits: left out 1 hidden file", "digits: made 2 images grey"]


def test_digits_are_1797_images_of_which_500_are_for_testing(digits: Dataset) -> None:
    assert (len(digits.train.labels), len(digits.test.labels)) == (1297, 500)


def test_the_two_parts_of_digits_are_disjoint_and_together_all_of_scikit_learns(
    digits: Dataset,
) -> None:
    pixels, target = load_digits(return_X_y=True)
    expected = np.column_stack((pixels, target))
    parts = []
    for part in (digits.train, digits.test):
        images = part.load(range(len(part.labels))).numpy().reshape(-1, 64) * 16
        parts.append(np.column_stack((images, part.labels.numpy())))
    found = np.concatenate(parts)
    assert np.array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])


def test_digits_are_float_images_in_the_unit_interval(digits: Dataset) -> None:
    images = digits.train.load(range(1297))
    assert images.dtype == torch.float32
    assert images.shape == (1297, 1, 8, 8)
    assert (images.min().item(), images.max().item()) == (0, 1)


def test_every_digit_has_its_share_of_the_test_images(digits: Dataset) -> None:
    counts = torch.bincount(digits.test.labels, minlength=10)
    assert counts.min() >= 48
    assert counts.max() <= 51


def test_digits_are_split_alike_every_time(digits: Dataset) -> None:
    again = load_dataset("digits")
    assert torch.equal(again.test.labels, digits.test.labels)
    assert torch.equal(again.test.load(range(500)), digits.test.load(range(500)))


def test_images_come_in_the_order_asked_for(digits: Dataset) -> None:
    assert torch.equal(digits.train.load([5, 3]), digits.train.load(range(10))[[5, 3]])


def test_digits_need_no_download(digits: Dataset) -> None:
    again = load_dataset("digits", download=True)
    assert torch.equal(again.train.labels, digits.train.labels)


def test_an_unknown_data_set_is_refused_with_the_known_ones() -> None:
    message = refusal(lambda: load_dataset("imagenet"))
    assert "'imagenet'" in message
    assert "digits, mnist, fashion_mnist, cifar10, cifar100, svhn, stl10, gtsrb," in message


def test_every_known_data_set_can_be_asked_for(tmp_path: Path) -> None:
    for name in DATASETS[1:]:
        assert "unknown" not in refusal(partial(load_dataset, name, tmp_path))


def test_a_folder_data_set_needs_a_folder() -> None:
    assert "data_dir" in refusal(lambda: load_dataset("folder"))
