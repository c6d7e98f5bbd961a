"""The example images of a report: which they are, and what is done to them."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from trainables.data.splits import HeldOutImages
from tuning.certification.examples import example_images
from tuning.certification.subjects import Model


class Halving(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.scale


def subject(labels: list[int], shape: tuple[int, ...] = (1, 4, 4)) -> Any:
    images = torch.rand(len(labels), *shape, generator=torch.Generator().manual_seed(0))
    indices = list(range(0, 10 * len(labels), 10))
    denoiser: Any = Halving()
    models = {
        "none": Model(None, 0.1),
        "best": Model(denoiser, 0.25, "search", 3),
        "front-1": Model(denoiser, 0.25, "search", 3),
    }
    return SimpleNamespace(test=HeldOutImages(images, torch.tensor(labels), indices), models=models)


def test_images_of_different_classes_are_shown_by_their_indices() -> None:
    labels = [0, 0, 0, 1, 1, 0, 2, 2, 0, 0]
    assert example_images(subject(labels), 0).indices == (0, 10, 20, 30, 40, 60)


def test_all_models_get_the_same_noise_scaled_by_their_sigma() -> None:
    one = subject([0, 1])
    one.test.images[:] = 0.5
    found = example_images(one, 0)
    again = example_images(one, 0)
    assert np.array_equal(found.noisy["best"], again.noisy["best"])
    assert not np.array_equal(found.noisy["best"], example_images(one, 1).noisy["best"])
    noise = {name: pixels / 255 - 0.5 for name, pixels in found.noisy.items()}
    inside = np.abs(noise["best"]) < 0.49
    assert noise["best"][inside] == pytest.approx(2.5 * noise["none"][inside], abs=0.02)
    assert found.denoised["best"] / 255 == pytest.approx(found.noisy["best"] / 510, abs=0.01)
    assert (list(found.noisy), list(found.denoised)) == (["none", "best"], ["best"])
    assert found.clean == pytest.approx(128, abs=1)
