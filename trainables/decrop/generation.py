"""Class-boundary and interpolated samples, for a whole batch at once.

Source: Nayak et al., WACV 2023, Section 3.1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainables.torch_internals import Adam

# An image's interpolation ends once its loss changes by less than this.
INTERPOLATION_TOLERANCE = 1e-3


class Attack(NamedTuple):
    """Projected gradient descent within an L-infinity ball; radius and step are in pixel units."""

    radius: float
    step_size: float
    steps: int


def boundary_samples(
    classifier: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    generator: torch.Generator,
) -> Tensor:
    """Untargeted L-infinity PGD from a uniform random start, clamped to [0, 1].

    Shapes: images [batch, C, H, W], labels [batch].
    Source: Madry et al. 2018, Section 2.1.
    """
    radius = attack.radius
    start = torch.rand(images.shape, generator=generator, device=generator.device)
    low, high = (images - radius).clamp_min(0), (images + radius).clamp_max(1)
    current = (images + (2 * start.to(images.device) - 1) * radius).clamp(low, high)
    for _ in range(attack.steps):
        current.requires_grad_(True)
        loss = F.cross_entropy(classifier(current).float(), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, current)
        with torch.no_grad():
            current = (current + attack.step_size * gradient.sign()).clamp(low, high)
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
    # In full precision: a target rounded to bfloat16 might be unreachable.
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        target = mix * classifier(images).float() + (1 - mix) * classifier(boundary).float()
    current = images.clone().requires_grad_(True)
    adam = Adam([current], lr=learning_rate, betas=(0.5, 0.999))
    previous = torch.full((len(images),), torch.inf, device=images.device)
    moving = torch.ones_like(previous, dtype=torch.bool)
    for _ in range(steps):
        # On a CPU, images that stopped are skipped; on a GPU, counting them would mean waiting.
        active = moving.nonzero().flatten() if images.device.type == "cpu" else slice(None)
        if len(moving[active]) == 0:
            break
        logits = classifier(current[active]).float()
        losses = (logits - target[active]).square().mean(dim=1)
        changed = (previous[active] - losses.detach()).abs() >= INTERPOLATION_TOLERANCE
        moving[active] = moving[active] & changed
        previous[active] = losses.detach()
        (current.grad,) = torch.autograd.grad(losses.sum(), current)
        before = current.detach().clone()
        adam.step()
        with torch.no_grad():
            current.copy_(torch.where(moving[:, None, None, None], current, before))
    return current.detach().clamp(0, 1)
