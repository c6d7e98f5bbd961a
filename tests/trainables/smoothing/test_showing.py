"""Images for people to look at."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.smoothing.showing import LARGEST, SHOWN, places, show

IMAGES = torch.linspace(0, 1, 12 * 3 * 4 * 4).reshape(12, 3, 4, 4)
LABELS = torch.tensor([1, 1, 0, 2, 2, 3, 4, 5, 6, 7, 8, 9])


class Halves(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 2


def test_the_first_image_of_each_class_is_shown_and_then_further_ones() -> None:
    assert places(LABELS) == [0, 2, 3, 5, 6, 7]
    assert places(torch.tensor([0, 0, 0, 1, 1, 0, 2, 2, 0, 0])) == [0, 1, 2, 3, 4, 6]
    assert places(torch.tensor([0, 0])) == [0, 1]
    assert len(places(torch.arange(20))) == SHOWN


def test_images_are_shown_clean_noisy_and_denoised() -> None:
    shown = show(Halves(), IMAGES, sigma=0.0, seed=1)
    assert shown.shape == (3, 12, 3, 4, 4)
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown[0], (255 * IMAGES).round().numpy())
    np.testing.assert_array_equal(shown[1], shown[0])
    np.testing.assert_array_equal(shown[2], (255 * IMAGES / 2).round().numpy())


def test_large_images_are_shown_smaller_with_as_much_noise_and_many_channels_as_grey() -> None:
    large = torch.full((1, 3, 4 * LARGEST, 2 * LARGEST), 0.5)
    shown = show(nn.Identity(), large, sigma=0.1, seed=1)
    assert shown.shape == (3, 1, 3, LARGEST, LARGEST // 2)
    assert shown[1].std() / 255 == pytest.approx(0.1, rel=0.05)
    assert show(nn.Identity(), torch.rand(1, 5, 8, 8), sigma=0.1, seed=1).shape == (3, 1, 1, 8, 8)


def test_every_trial_sees_the_same_noise_scaled_by_its_sigma() -> None:
    grey = torch.full((2, 1, 32, 32), 0.5)
    little = show(nn.Identity(), grey, sigma=0.05, seed=1)[1].astype(int) - 128
    more = show(nn.Identity(), grey, sigma=0.1, seed=1)[1].astype(int) - 128
    other = show(nn.Identity(), grey, sigma=0.05, seed=2)[1].astype(int) - 128
    assert np.abs(2 * little - more).max() <= 3
    assert np.abs(little - other).max() > 10


def test_pixels_out_of_range_are_clipped_and_nothing_random_is_used_up() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    shown = show(nn.Identity(), IMAGES, sigma=5.0, seed=1)
    assert {0, 255} <= set(shown[1].flatten().tolist())
    assert torch.equal(torch.get_rng_state(), before)
