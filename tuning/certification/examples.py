"""Example images for the report: a few that are certified, with noise and denoised."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from results.examples import Examples, Pixels
from results.schema import VARIANTS
from trainables.data.splits import HeldOutImages
from tuning.certification.subjects import Model, Subject

# More than these are not looked at.
SHOWN = 6
# Pixels of a side: enough to see what noise and denoisers do.
LARGEST = 64


def example_images(subject: Subject, seed: int) -> Examples:
    """Pictures of certified images, of different classes where there are as many.

    All variants get the same draws of noise, each scaled by its sigma. They are not those that the
    certificates are made of, of which there are thousands. Further models are left out.
    """
    models = {name: subject.models[name] for name in VARIANTS if name in subject.models}
    chosen = _spread(subject.test)
    clean = subject.test.images[chosen]
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(clean.shape, generator=generator)
    noisy = {name: clean + model.sigma * noise for name, model in models.items()}
    denoised = {
        name: _denoised(model, noisy[name])
        for name, model in models.items()
        if model.denoiser is not None
    }
    return Examples(
        tuple(subject.test.indices[place] for place in chosen),
        _pixels(clean),
        {name: _pixels(images) for name, images in noisy.items()},
        {name: _pixels(images) for name, images in denoised.items()},
    )


def _spread(test: HeldOutImages) -> list[int]:
    """The places of the images to show: the first of each class, then further ones."""
    labels: Sequence[int] = test.labels.tolist()
    firsts = [place for place, label in enumerate(labels) if label not in labels[:place]]
    others = [place for place in range(len(labels)) if place not in firsts]
    return sorted((firsts + others)[:SHOWN])


def _denoised(model: Model, images: Tensor) -> Tensor:
    assert model.denoiser is not None
    device = next(model.denoiser.parameters()).device
    with torch.inference_mode():
        denoised: Tensor = model.denoiser(images.to(device)).cpu()
    return denoised


def _pixels(images: Tensor) -> Pixels:
    """Pixels in [0, 1] as uint8, no larger than is looked at; grey or three channels."""
    if images.shape[1] not in (1, 3):
        images = images.mean(dim=1, keepdim=True)
    side = max(images.shape[2:])
    if side > LARGEST:
        scale = LARGEST / side
        images = torch.nn.functional.interpolate(images, scale_factor=scale, mode="area")
    pixels: Pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return pixels
