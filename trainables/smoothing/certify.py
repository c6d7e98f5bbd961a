"""Votes under noise, and the certificates they prove.

Source: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
ICML 2019, Section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.smoothing.bounds import certified_radius, lower_bound
from trainables.smoothing.noise import Block, draw_noise

ABSTAIN = -1
# Images per forward pass: the joined activations of about this many pixels stay in the cache.
FORWARD_PIXELS = 16_384


class Certificate(NamedTuple):
    """What the votes prove about one image; `predicted` is -1 for an abstention.

    `radius` is an L2 radius in pixel units on the [0, 1] scale, 0.0 for an abstention. `p_lower`
    bounds the probability of `predicted` from below at confidence 1 - alpha.
    """

    predicted: int
    radius: float
    votes_top: int
    n: int
    n0: int
    p_lower: float
    sigma: float
    alpha: float


def forward_batch(shape: torch.Size) -> int:
    """How many noisy copies of an image [C, H, W] go through the model at once."""
    return max(1, FORWARD_PIXELS // (shape[-2] * shape[-1]))


@torch.inference_mode()
def count_votes(model: nn.Module, image: Tensor, sigma: float, block: Block) -> Tensor:
    """Votes per class over one block of noisy copies of `image` [C, H, W]: int64 [classes].

    A copy whose largest logit is tied, or with a logit that is not finite, votes for no class, so
    the counts sum to at most block.size. The model must be in evaluation mode.
    """
    noisy = image + draw_noise(block, image.shape, sigma, image.device)
    counts: Tensor | None = None
    for batch in noisy.split(forward_batch(image.shape)):
        logits = model(batch.contiguous(memory_format=torch.channels_last)).float()
        top = logits.topk(2, dim=1)
        valid = logits.isfinite().all(dim=1) & (top.values[:, 0] > top.values[:, 1])
        votes = torch.bincount(top.indices[valid, 0], minlength=logits.shape[1])
        counts = votes if counts is None else counts + votes
    assert counts is not None, "a block holds at least one draw"
    return counts


def total_votes(
    model: nn.Module, image: Tensor, sigma: float, blocks: Iterable[Block]
) -> list[int]:
    """Votes per class over all `blocks`: [classes]."""
    counts: Tensor = torch.stack([count_votes(model, image, sigma, b) for b in blocks]).sum(dim=0)
    return [int(count) for count in counts]


def certificate(
    selection: list[int], estimation: list[int], *, n0: int, n: int, sigma: float, alpha: float
) -> Certificate:
    """The certificate that two independent sets of votes per class prove.

    `selection` (n0 votes) picks the class, `estimation` (n fresh votes) bounds its probability.

    Raises:
        ValueError: when either holds more votes than were cast, or a number is out of range.
    """
    if sum(selection) > n0 or sum(estimation) > n:
        raise ValueError(f"{sum(selection)} of {n0} and {sum(estimation)} of {n} votes: too many")
    top = max(range(len(selection)), key=selection.__getitem__)
    votes_top = estimation[top]
    radius = certified_radius(votes_top, n, sigma, alpha)
    return Certificate(
        predicted=top if radius > 0 else ABSTAIN,
        radius=radius,
        votes_top=votes_top,
        n=n,
        n0=n0,
        p_lower=lower_bound(votes_top, n, alpha),
        sigma=sigma,
        alpha=alpha,
    )
