"""What a worker does: count the votes of some pieces with a model that it keeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import lru_cache

import ray
import torch
from torch import Tensor, nn

from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import Noise, plan_blocks
from tuning.cluster.fetching import fetched
from tuning.cluster.resources import Resources
from tuning.votes.store import Counts, VoteKey

# Models that a worker keeps: the variants of a setting take turns.
MODELS_HELD = 4

Model = ray.ObjectRef[nn.Module]
Reference = ray.ObjectRef[list[Counts]]
Send = Callable[[str, Model, Sequence[Tensor], Sequence[VoteKey], Resources], Reference]
"""Starts a task, as `send_task` does."""


def send_task(
    name: str,
    model: Model,
    images: Sequence[Tensor],
    keys: Sequence[VoteKey],
    resources: Resources,
) -> Reference:
    """Start a task that counts the votes of each of `keys`, on its image [C, H, W]."""
    task = _count.options(name=name, **resources.of_task)
    # In a list, so that Ray does not resolve the reference anew for every task.
    return task.remote([model], images, keys, resources)


@ray.remote(max_retries=3)
def _count(
    model: list[Model],
    images: Sequence[Tensor],
    keys: Sequence[VoteKey],
    resources: Resources,
) -> list[Counts]:
    device = resources.prepare_worker()
    held = _held(model[0], device)
    started = time.perf_counter()
    pieces = [
        Piece(
            image.to(device),
            Noise(key.sigma, key.pixel_steps),
            # The noise is keyed without the model: every variant sees the same draws.
            plan_blocks(key.stop, key.seed, key.phase, key.image, key.sigma, start=key.start),
        )
        for image, key in zip(images, keys, strict=True)
    ]
    votes = count_votes(held, pieces).tolist()
    each = (time.perf_counter() - started) / sum(key.size for key in keys)
    node = ray.util.get_node_ip_address()
    return [
        Counts(of_piece, each * key.size, node) for of_piece, key in zip(votes, keys, strict=True)
    ]


@lru_cache(maxsize=MODELS_HELD)
def _held(model: Model, device: torch.device) -> nn.Module:
    """The model, which this worker keeps from task to task."""
    return fetched(model).to(device).eval()
