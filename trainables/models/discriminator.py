"""The domain discriminator and the gradient-reversal layer in front of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, strength: float) -> Tensor:
        ctx.strength = strength
        return inputs.view_as(inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * grads[0], None


def reverse_gradient(inputs: Tensor, strength: float) -> Tensor:
    """The identity, whose gradient is multiplied by -strength.

    Source: Ganin et al. 2016, Section 4.2.
    """
    reversed_inputs: Tensor = _Reverse.apply(inputs, strength)
    return reversed_inputs


def reversal_schedule(final_strength: float, progress: float) -> float:
    """Strength at `progress` in [0, 1] of the stage: 0 at its start, about `final_strength` at 1.

    Source: Ganin et al. 2016, Section 5.2.2.
    """
    return final_strength * (2 / (1 + math.exp(-10 * progress)) - 1)


class Discriminator(nn.Sequential):
    """Tells clean features (class 0) from denoised ones (class 1): [batch, features] -> [batch, 2].

    Source: Nayak et al., WACV 2023, Section 3.3 (features -> 100 -> batch norm -> ReLU -> 2).
    """

    def __init__(self, features: int, hidden: int = 100) -> None:
        super().__init__(
            nn.Linear(features, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, 2)
        )
