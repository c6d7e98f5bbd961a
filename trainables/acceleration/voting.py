"""The copy of a model that casts votes: the same up to rounding, but faster."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.acceleration.folding import folded, lay_out, layout_of, without_tf32
from trainables.acceleration.fusing import fused
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.worker import using_threads

Precision = Literal["float32", "bfloat16"]


class _Voting(nn.Module):
    """A network that takes and returns float32, and computes in one precision.

    The precision is part of the certificate, so PyTorch's settings do not change it: "float32"
    never means TF32, and algorithms are not chosen by measuring them.

    In bfloat16 the layer `head`, if there is one, stays in float32: logits with so few digits would
    often tie, and a tie votes for no class.

    Weights are laid out when the first images come, because only then the device is known.
    """

    def __init__(self, network: nn.Module, precision: Precision, head: str | None) -> None:
        super().__init__()
        self.network, self.precision = network, precision
        self.either_layout = layout_of(network) is torch.channels_last
        self.dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        if precision == "bfloat16":
            self.network = copy.deepcopy(network).to(self.dtype)
            if head is not None:
                last = self.network.get_submodule(head).float()
                last.register_forward_pre_hook(lambda _, inputs: (inputs[0].float(),))

    def forward(self, images: Tensor) -> Tensor:
        layout = layout_of_votes(images.device.type, self.precision)
        if self.either_layout and layout_of(self.network) is not layout:
            # Weights that inference mode makes could not be used outside of it.
            with torch.inference_mode(False), torch.no_grad():
                lay_out(self.network, layout)
        with without_tf32():
            answers: Tensor = self.network(images.to(self.dtype))
        return answers.float()


def layout_of_votes(device: str, precision: Precision) -> torch.memory_format:
    """The layout in which a model votes fastest on this type of `device`.

    cuDNN has no kernels for float32 in channels last that do without TF32: it converts every
    tensor there and back (docs/benchmarks.md).
    """
    if device == "cuda" and precision == "float32":
        return torch.contiguous_format
    return torch.channels_last


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
    # An exported program may have no parameters: its weights are buffers.
    device = next(chain(model.parameters(), model.buffers())).device
    examples = torch.rand((2, *shape), generator=generator).to(device)
    # Beside busy workers, threads that wait for each other take a second for a small model, and one
    # thread 0.04 s.
    with using_threads(1):
        faster = fused(folded(model.eval(), examples), examples)
    return _Voting(faster, precision, _head(model, faster)).eval()


def _head(model: nn.Module, faster: nn.Module) -> str | None:
    """The name of the layer of `faster` that gives the logits; the last linear one if unknown."""
    parts = dict(faster.named_modules())
    if isinstance(model, BaseClassifier) and f"network.{model.head}" in parts:
        return f"network.{model.head}"
    return next((n for n in reversed(parts) if isinstance(parts[n], nn.Linear)), None)
