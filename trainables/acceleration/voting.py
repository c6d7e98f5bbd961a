"""The copy of a model that casts votes: the same up to rounding, but faster."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.acceleration.folding import folded, without_tf32
from trainables.acceleration.fusing import fused
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser

Precision = Literal["float32", "bfloat16"]


class _Voting(nn.Module):
    """A network that takes and returns float32, and computes in one precision.

    The precision is part of the certificate, so PyTorch's settings do not change it: "float32"
    never means TF32, and algorithms are not chosen by measuring them.

    In bfloat16 the last linear layer stays in float32: logits with so few digits would often tie,
    and a tie votes for no class.
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
        with without_tf32():
            answers: Tensor = self.network(images.to(self.dtype))
        return answers.float()


def prepared(model: nn.Module, shape: Sequence[int], precision: Precision) -> nn.Module:
    """A faster copy of `model` for images of `shape` [C, H, W].

    Batch norm is folded into convolutions, and ReLUs are fused with them. In a sequence, each part
    is prepared. Anything but a denoiser or a `BaseClassifier`, such as a classifier behind an
    endpoint, is left as it is, and is not called.
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
