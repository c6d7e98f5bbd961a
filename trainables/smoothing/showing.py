"""What a denoiser does to a few images, for people to look at."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

# The most images that are shown, and the most pixels of their sides: enough to see what noise and
# denoisers do.
SHOWN, LARGEST = 6, 64


def places(labels: Tensor) -> list[int]:
    """The places of the images to show: the first of each class, then further ones, in order."""
    listed = labels.tolist()
    firsts = sorted(listed.index(label) for label in set(listed))
    others = [place for place in range(len(listed)) if place not in firsts]
    return sorted((firsts + others)[:SHOWN])


def show(denoiser: nn.Module, clean: Tensor, sigma: float, seed: int) -> NDArray[np.uint8]:
    """Images clean, noisy and denoised.

    `clean` is [n, channels, height, width] with pixels in [0, 1], anywhere; the result is [3, n,
    channels, height, width] with pixels in 0..255, grey or in three channels, and no larger than is
    looked at. The same `seed` gives the same noise, scaled by `sigma`, whatever the denoiser. It
    must be in evaluation mode.
    """
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    device = next((weight.device for weight in denoiser.parameters()), clean.device)
    clean, noise = clean.to(device).float(), noise.to(device)
    noisy = clean + sigma * noise
    with torch.inference_mode():
        return _pixels(torch.stack([clean, noisy, denoiser(noisy).float()]))


def _pixels(images: Tensor) -> NDArray[np.uint8]:
    if images.shape[2] not in (1, 3):
        images = images.mean(dim=2, keepdim=True)
    # Averages of pixels would have less noise than there is.
    step = -(-max(images.shape[3:]) // LARGEST)
    images = images[..., ::step, ::step]
    pixels: NDArray[np.uint8] = (255 * images.clamp(0, 1)).round().to("cpu", torch.uint8).numpy()
    return pixels
