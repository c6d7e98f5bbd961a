"""Class-boundary and interpolated samples, for a whole batch at once.

Source: Nayak et al., WACV 2023, Section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.decrop.config import DecropConfig

# An image's interpolation ends once its loss changes by less than this.
INTERPOLATION_TOLERANCE = 1e-3
GENERATION_BATCH = 500


class GeneratedSamples(NamedTuple):
    """Boundary and interpolated samples of the same images, both [images, C, H, W] in [0, 1]."""

    boundary: Tensor
    interpolated: Tensor


def boundary_samples(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    step_size: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Untargeted L-infinity PGD from a uniform random start, clamped to [0, 1].

    Shapes: images [batch, C, H, W], labels [batch]; radius and step size in pixel units.
    Source: Madry et al. 2018, Section 2.1.
    """
    start = torch.rand(images.shape, generator=generator, device=generator.device)
    start = start.to(images.device)
    current = (images + (2 * start - 1) * radius).clamp(0, 1)
    for _ in range(steps):
        current.requires_grad_(True)
        loss = F.cross_entropy(classifier(current), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, current)
        stepped = current.detach() + step_size * gradient.sign()
        current = torch.clamp(stepped, images - radius, images + radius).clamp(0, 1)
    return current.detach()


def interpolated_samples(
    classifier: nn.Module,
    images: Tensor,
    boundary: Tensor,
    *,
    mix: float,
    steps: int,
    learning_rate: float,
) -> Tensor:
    """Move copies of `images` until their logits reach mix * C(x) + (1 - mix) * C(boundary).

    Adam (betas 0.5, 0.999) on the MSE of each image's logits; an image stops moving once its
    loss changes by less than 1e-3. Shapes as `boundary_samples`; the result is in [0, 1].
    """
    with torch.no_grad():
        target = mix * classifier(images) + (1 - mix) * classifier(boundary)
    current = images.clone().requires_grad_(True)
    adam = torch.optim.Adam([current], lr=learning_rate, betas=(0.5, 0.999))
    previous = torch.full((len(images),), torch.inf, device=images.device)
    moving = torch.ones_like(previous, dtype=torch.bool)
    for _ in range(steps):
        losses = (classifier(current) - target).square().mean(dim=1)
        moving = moving & ((previous - losses.detach()).abs() >= INTERPOLATION_TOLERANCE)
        previous = losses.detach()
        (current.grad,) = torch.autograd.grad(losses.sum(), current)
        before = current.detach().clone()
        adam.step()
        with torch.no_grad():
            current.copy_(torch.where(moving[:, None, None, None], current, before))
    return current.detach().clamp(0, 1)


def generate(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: DecropConfig,
    generator: torch.Generator,
) -> GeneratedSamples:
    """Boundary and interpolated samples of all `images` [images, C, H, W]."""
    boundary, interpolated = [], []
    for x, y in zip(images.split(GENERATION_BATCH), labels.split(GENERATION_BATCH), strict=True):
        x_boundary = boundary_samples(
            classifier,
            x,
            y,
            radius=config.attack_radius,
            step_size=config.step_size,
            steps=config.attack_steps,
            generator=generator,
        )
        boundary.append(x_boundary)
        interpolated.append(
            interpolated_samples(
                classifier,
                x,
                x_boundary,
                mix=config.mix,
                steps=config.interpolation_steps,
                learning_rate=config.interpolation_learning_rate,
            )
        )
    return GeneratedSamples(torch.cat(boundary), torch.cat(interpolated))
