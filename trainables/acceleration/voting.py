"""The copy of a model that votes: the same up to rounding, in less time."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.acceleration.folding import folded
from trainables.acceleration.fusing import fused
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import BLOCK_SIZE, Block

Precision = Literal["float32", "bfloat16"]
# How much faster bfloat16 has to be: far more than what a busy machine makes of two equal times,
# so that another start on it would decide alike.
WORTH = 1.5
# The measurement takes so long, or so many rounds, at least.
_SECONDS, _ROUNDS = 0.5, 3


class _Voting(nn.Module):
    """A network that takes and gives float32, and computes in one precision.

    That is what a certificate speaks of, so it holds whatever the switches of cuDNN say: "float32"
    is not the TF32 of convolutions on a GPU, nor is an algorithm chosen by its speed of the moment.

    In bfloat16 the last linear layer stays in float32: logits of so few digits would often tie, and
    a tie is a vote for nobody.
    """

    def __init__(self, network: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.network = network
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        if precision == "bfloat16":
            self.network = copy.deepcopy(network).to(self.dtype)
            linear = [module for module in self.network.modules() if isinstance(module, nn.Linear)]
            for head in linear[-1:]:
                head.float().register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))

    def forward(self, images: Tensor) -> Tensor:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            answers: Tensor = self.network(images.to(self.dtype))
        return answers.float()


def prepared(model: nn.Module, shape: Sequence[int], precision: Precision) -> nn.Module:
    """A copy of `model` for images of `shape` [C, H, W], with less to compute and to write down.

    Batch norm is folded into convolutions, and ReLUs are fused with them. Of a sequence each part
    is prepared; what is neither a denoiser nor a network of ours, as a classifier behind an
    endpoint, is left as it is, and not asked anything.
    """
    if isinstance(model, nn.Sequential):
        return nn.Sequential(*(prepared(part, shape, precision) for part in model)).eval()
    if not isinstance(model, Denoiser | BaseClassifier):
        return model
    generator = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    examples = torch.rand((2, *shape), generator=generator).to(device)
    faster = fused(folded(model.eval(), examples), examples)
    return _Voting(faster, precision).eval()


def choose_precision(model: nn.Module, image: Tensor) -> Precision:
    """The precision in which `model` votes fastest on `image` [C, H, W] and its device.

    bfloat16 has to be faster by a half, and to give as many valid votes. A model of which any part
    cannot be prepared stays in float32.
    """
    parts = list(model) if isinstance(model, nn.Sequential) else [model]
    if not all(isinstance(part, Denoiser | BaseClassifier) for part in parts):
        return "float32"
    exact = prepared(model, image.shape, "float32")
    with suppress(Exception):  # a foreign network can raise anything in another precision
        rounded = prepared(model, image.shape, "bfloat16")
        blocks = [Block(BLOCK_SIZE, 0)]
        valid = [sum(total_votes(m, image, 0.25, blocks)) for m in (exact, rounded)]
        seconds: dict[nn.Module, list[float]] = {exact: [], rounded: []}
        # In turns, so that a busy moment hits both.
        while len(seconds[exact]) < _ROUNDS or sum(sum(s) for s in seconds.values()) < _SECONDS:
            for candidate, found in seconds.items():
                started = time.perf_counter()
                total_votes(candidate, image, 0.25, blocks)
                found.append(time.perf_counter() - started)
        if valid[0] == valid[1] and min(seconds[exact]) > WORTH * min(seconds[rounded]):
            return "bfloat16"
    return "float32"
