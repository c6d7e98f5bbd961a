import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from trainables.decrop.augmentation import augment
from trainables.decrop.config import DecropConfig

Move = tuple[int, int, bool]


def random_images(count: int, channels: int = 2, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 0.1 + 0.9 * torch.rand(count, channels, 5, 6, generator=generator)


def moves_that_explain(before: Tensor, after: Tensor, padding: int) -> set[Move]:
    """Every (down, right, flipped) whose slice of the padded image [C, H, W] is `after`."""
    padded = np.pad(before.numpy(), ((0, 0), (padding, padding), (padding, padding)))
    height, width = before.shape[1:]
    found: set[Move] = set()
    for down in range(2 * padding + 1):
        for right in range(2 * padding + 1):
            window = padded[:, down : down + height, right : right + width]
            for flipped in (False, True):
                expected = window[:, :, ::-1] if flipped else window
                if np.array_equal(expected, after.numpy()):
                    found.add((down, right, flipped))
    return found


def config(padding: int, *, flip: bool = True, paired: bool = False) -> DecropConfig:
    return DecropConfig(crop_padding=padding, flip=flip, paired_augmentation=paired)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(padding=st.integers(0, 3), flip=st.booleans(), paired=st.booleans(), seed=st.integers(0, 99))
def test_every_image_is_a_slice_of_its_padded_self_perhaps_flipped(
    padding: int, flip: bool, paired: bool, seed: int
) -> None:
    views = [random_images(4, seed=1), random_images(4, seed=2)]
    moved = augment(views, config(padding, flip=flip, paired=paired), seeded(seed))
    for view, result in zip(views, moved, strict=True):
        assert result.shape == view.shape
        assert result.dtype == torch.float32
        for before, after in zip(view, result, strict=True):
            moves = moves_that_explain(before, after, padding)
            assert moves
            assert flip or not all(flipped for *_, flipped in moves)


def test_paired_augmentation_moves_the_views_of_an_image_alike() -> None:
    views = [random_images(20, seed=s) for s in (1, 2, 3)]
    moved = augment(views, config(2, paired=True), seeded())
    for index in range(20):
        explained = [
            moves_that_explain(view[index], result[index], 2)
            for view, result in zip(views, moved, strict=True)
        ]
        assert set.intersection(*explained)


def test_paired_augmentation_moves_the_images_of_a_batch_differently() -> None:
    images = random_images(1).expand(20, -1, -1, -1)
    (moved,) = augment([images], config(2, paired=True), seeded())
    assert len({image.numpy().tobytes() for image in moved}) > 10


def test_unpaired_augmentation_moves_the_views_of_an_image_apart() -> None:
    images = random_images(20)
    first, second, third = augment([images, images, images], config(2), seeded())
    for one, other in ((first, second), (second, third), (first, third)):
        assert sum(not torch.equal(a, b) for a, b in zip(one, other, strict=True)) > 10


@pytest.mark.parametrize("paired", [True, False])
def test_every_offset_and_both_orientations_occur_equally_often(paired: bool) -> None:
    images = random_images(1, channels=1).expand(1800, -1, -1, -1)
    views = augment([images, images], config(1, paired=paired), seeded())
    for view in views:
        counts: dict[bytes, int] = {}
        for image in view:
            key = image.contiguous().numpy().tobytes()
            counts[key] = counts.get(key, 0) + 1
        assert len(counts) == 18
        assert min(counts.values()) > 60
        assert max(counts.values()) < 150


def test_without_padding_and_flip_nothing_moves() -> None:
    images = random_images(6)
    (moved,) = augment([images], config(0, flip=False), seeded())
    assert torch.equal(moved, images)


def test_the_pixel_range_is_kept_and_padding_is_black() -> None:
    (moved,) = augment([random_images(50)], config(4), seeded())
    assert moved.min() == 0
    assert moved.max() <= 1


def test_the_views_handed_in_are_left_alone() -> None:
    images = random_images(6)
    before = images.clone()
    (moved,) = augment([images], config(0, flip=False), seeded())
    moved.zero_()
    assert torch.equal(images, before)


def test_the_generator_alone_decides_the_moves() -> None:
    images = random_images(10)
    first, again, other = (augment([images], config(2), seeded(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
