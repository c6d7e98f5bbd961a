"""Images for people to look at."""

import numpy as np
import torch
from torch import Tensor, nn

from trainables.smoothing.showing import SHOWN, show

IMAGES = torch.linspace(0, 1, 12 * 3 * 4 * 4).reshape(12, 3, 4, 4)
LABELS = torch.tensor([1, 1, 0, 2, 2, 3, 4, 5, 6, 7, 8, 9])


class Halves(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images / 2


def test_one_image_of_each_class_is_shown_clean_noisy_and_denoised() -> None:
    shown = show(Halves(), IMAGES, LABELS, sigma=0.0, seed=1)
    assert shown.shape == (3, SHOWN, 3, 4, 4)
    assert shown.dtype == np.uint8
    first = IMAGES[[2, 0, 3, 5, 6, 7, 8, 9]]
    np.testing.assert_array_equal(shown[0], (255 * first).round().numpy())
    np.testing.assert_array_equal(shown[1], shown[0])
    np.testing.assert_array_equal(shown[2], (255 * first / 2).round().numpy())


def test_every_trial_sees_the_same_noise_scaled_by_its_sigma() -> None:
    grey, same = torch.full((2, 1, 32, 32), 0.5), torch.tensor([0, 1])
    little = show(nn.Identity(), grey, same, sigma=0.05, seed=1)[1].astype(int) - 128
    more = show(nn.Identity(), grey, same, sigma=0.1, seed=1)[1].astype(int) - 128
    other = show(nn.Identity(), grey, same, sigma=0.05, seed=2)[1].astype(int) - 128
    assert np.abs(2 * little - more).max() <= 3
    assert np.abs(little - other).max() > 10


def test_pixels_out_of_range_are_clipped_and_nothing_random_is_used_up() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    shown = show(nn.Identity(), IMAGES, LABELS, sigma=5.0, seed=1)
    assert {0, 255} <= set(shown[1].flatten().tolist())
    assert torch.equal(torch.get_rng_state(), before)
