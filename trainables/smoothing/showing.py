"""What a denoiser does to a few images, for people to look at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The most images that are shown.
SHOWN = 8


def show(
    denoiser: nn.Module, images: Tensor, labels: Tensor, sigma: float, seed: int
) -> NDArray[np.uint8]:
    """The first image of each class, up to `SHOWN` of them: clean, noisy and denoised.

    `images` are [batch, channels, height, width] with pixels in [0, 1], anywhere; the result is
    [3, shown, channels, height, width] with pixels in 0..255. The same `seed` gives the same noise,
    scaled by `sigma`, whatever the denoiser. It must be in evaluation mode.
    """
    listed = labels.tolist()
    first = [listed.index(label) for label in sorted(set(listed))][:SHOWN]
    clean = images[first].float()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    device = next((weight.device for weight in denoiser.parameters()), clean.device)
    clean, noise = clean.to(device), noise.to(device)
    noisy = clean + sigma * noise
    with torch.inference_mode():
        seen = torch.stack([clean, noisy, denoiser(noisy).float()])
        pixels = (255 * seen.clamp(0, 1)).round().to("cpu", torch.uint8)
    array: NDArray[np.uint8] = pixels.numpy()
    return array
