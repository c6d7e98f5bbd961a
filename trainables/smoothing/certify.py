"""Votes under noise, and the certificates they prove.

Source: Cohen, Rosenfeld and Kolter, "Certified Adversarial Robustness via Randomized Smoothing",
ICML 2019, Section 3.2.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainables.smoothing.noise import Block, draw_noise
from trainables.smoothing.procedures import Procedure, Tally
from trainables.smoothing.quantised import quantised_copies

ABSTAIN = -1
# Images per forward pass: the joined activations of about this many pixels stay in the cache.
FORWARD_PIXELS = 16_384


class Certificate(NamedTuple):
    """What the votes prove about one image; `predicted` is -1 for an abstention.

    `radius` is an L2 radius in pixel units on the [0, 1] scale, 0.0 for an abstention. `p_lower`
    bounds the probability of `predicted` from below at confidence 1 - alpha, by `votes_top` of `n`
    votes and the rule of `procedure`. `votes` is the number of all votes cast.
    """

    predicted: int
    radius: float
    votes_top: int
    n: int
    n0: int
    p_lower: float
    sigma: float
    alpha: float
    procedure: str
    votes: int


def forward_batch(shape: torch.Size) -> int:
    """How many noisy copies of an image [C, H, W] go through the model at once."""
    return max(1, FORWARD_PIXELS // (shape[-2] * shape[-1]))


@torch.inference_mode()
def count_votes(
    model: nn.Module, image: Tensor, sigma: float, block: Block, pixel_steps: int = 0
) -> Tensor:
    """Votes per class over one block of noisy copies of `image` [C, H, W]: int64 [classes].

    With `pixel_steps` the noise is rounded to multiples of 1 / `pixel_steps`, as the image is.

    A copy whose largest logit is tied, or with a logit that is not finite, votes for no class, so
    the counts sum to at most block.size. The model must be in evaluation mode.
    """
    if pixel_steps:
        noisy = quantised_copies(image, sigma, pixel_steps, block)
    else:
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
    model: nn.Module, image: Tensor, sigma: float, blocks: Iterable[Block], pixel_steps: int = 0
) -> list[int]:
    """Votes per class over all `blocks`, counted as `count_votes` does: [classes]."""
    counts = [count_votes(model, image, sigma, block, pixel_steps) for block in blocks]
    return [int(count) for count in torch.stack(counts).sum(dim=0)]


class Request(NamedTuple):
    """Votes wanted: the draws from `start` to `stop` of an image's stream for the purpose `phase`.

    `start` is a multiple of the block size.
    """

    phase: str
    start: int
    stop: int


def certifying(procedure: Procedure, sigma: float) -> Generator[Request, list[int], Certificate]:
    """Asks for votes per class, request by request, and returns the certificate they prove.

    Raises:
        ValueError: when it is sent more votes than it asked for, or sigma is not positive.
    """
    request = Request("select", 0, procedure.n0)
    selection = _checked((yield request), request)
    top = max(range(len(selection)), key=selection.__getitem__)
    tallies: list[Tally] = []
    while (stop := procedure.next_stop(selection[top], tallies, sigma)) is not None:
        seen = tallies[-1] if tallies else Tally(0, 0)
        request = Request("estimate", seen.n, stop)
        counts = _checked((yield request), request)
        tallies.append(Tally(stop, seen.votes_top + counts[top]))
    claim = procedure.claim(tallies, sigma)
    return Certificate(
        predicted=top if claim.proved else ABSTAIN,
        radius=claim.radius,
        votes_top=claim.tally.votes_top,
        n=claim.tally.n,
        n0=procedure.n0,
        p_lower=claim.p_lower,
        sigma=sigma,
        alpha=procedure.alpha,
        procedure=procedure.name,
        votes=procedure.n0 + tallies[-1].n,
    )


def _checked(counts: list[int], request: Request) -> list[int]:
    if sum(counts) > request.stop - request.start:
        raise ValueError(f"{sum(counts)} votes of {request.stop - request.start}: too many")
    return counts
