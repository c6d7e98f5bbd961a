"""Denoisers: networks that map a noisy image to a clean one of the same shape.

Each is residual, x -> x - net(x), with a zero last layer, so that an untrained denoiser is the
identity.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Convolutions in a stage of a DnCNN: with about the root of its depth it needs least memory.
STAGE_CONVOLUTIONS = 4


class Denoiser(nn.Module):
    """Removes noise from images [batch, channels, height, width].

    `sizes` names the constructor's arguments, besides `channels`, that determine the architecture.
    """

    architecture: ClassVar[str]
    sizes: ClassVar[tuple[str, ...]]
    channels: int

    @property
    def spec(self) -> dict[str, str | int | float]:
        """What `build_denoiser` needs to build one that computes the same with the same weights."""
        numbers = {name: int(getattr(self, name)) for name in self.sizes}
        return {
            "architecture": self.architecture,
            "channels": self.channels,
            **numbers,
            "norm_eps": next(self._norms()).eps,
        }

    def set_batch_norm(self, *, eps: float | None = None, momentum: float | None = None) -> None:
        """Set batch norm's constants, in PyTorch's sense, in all layers; None leaves one as it is.

        A denoiser's function depends on eps; only its training depends on the momentum.
        """
        for norm in self._norms():
            norm.eps = norm.eps if eps is None else eps
            norm.momentum = norm.momentum if momentum is None else momentum

    def _norms(self) -> Iterator[nn.BatchNorm2d]:
        return (layer for layer in self.modules() if isinstance(layer, nn.BatchNorm2d))

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoised images of the same shape; not clamped to [0, 1]."""
        return noisy - self.noise(noisy)

    def noise(self, noisy: Tensor) -> Tensor:
        """The noise that the network sees in `noisy`."""
        raise NotImplementedError

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """What `noise` computes, as functions of what the one before returns."""
        return [self.noise]


class DnCNN(Denoiser):
    """`depth` convolutions of `width` channels with batch norm in between.

    Source: Zhang et al. 2017, Section III; orthogonal initialisation as in Nayak et al. 2023.
    """

    architecture = "dncnn"
    sizes = ("depth", "width")

    def __init__(self, channels: int, depth: int = 17, width: int = 64) -> None:
        super().__init__()
        self.channels, self.depth, self.width = channels, depth, width
        # In place: allocating a tensor for each activation would cost more than computing it.
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(inplace=True)]
        for _ in range(depth - 2):
            layers += [
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
        layers.append(nn.Conv2d(width, channels, 3, padding=1, bias=False))
        self.net = nn.Sequential(*layers)
        _initialise(self, last=self.net[-1])

    def noise(self, noisy: Tensor) -> Tensor:
        """As `Denoiser.noise`."""
        noise: Tensor = self.net(noisy)
        return noise

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """As `Denoiser.stages`; each begins with a convolution, which leaves its input as it is."""
        first = [number for number, layer in enumerate(self.net) if isinstance(layer, nn.Conv2d)][
            ::STAGE_CONVOLUTIONS
        ]
        return [self.net[start:end] for start, end in pairwise([*first, len(self.net)])]


class MemNet(Denoiser):
    """`memory_blocks` of `residual_blocks` each; a gate in each block sees all that came before.

    Source: Tai et al. 2017, Section 3, with separate weights for each residual block, as in
    Salman et al. 2020, and without multi-supervision.
    """

    architecture = "memnet"
    sizes = ("memory_blocks", "residual_blocks", "width")

    def __init__(
        self, channels: int, memory_blocks: int = 3, residual_blocks: int = 6, width: int = 64
    ) -> None:
        super().__init__()
        self.channels, self.width = channels, width
        self.memory_blocks, self.residual_blocks = memory_blocks, residual_blocks
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.blocks = nn.ModuleList(
            _MemoryBlock(width, residual_blocks, long_term=number + 1)
            for number in range(memory_blocks)
        )
        self.last = _activated(width, channels, 3)
        _initialise(self, last=self.last[-1])

    def noise(self, noisy: Tensor) -> Tensor:
        """As `Denoiser.noise`."""
        memories = [self.first(noisy)]
        for block in self.blocks:
            memories.append(block(memories))
        noise: Tensor = self.last(memories[-1])
        return noise


class UNet(Denoiser):
    """`levels` scales, each with half the height and width and twice the channels, and skips.

    Images may have any size: they are padded to a multiple of 2^(levels - 1).
    Source: Ronneberger et al. 2015, Section 2, with batch norm and padded convolutions.
    """

    architecture = "unet"
    sizes = ("levels", "width")

    def __init__(self, channels: int, levels: int = 3, width: int = 64) -> None:
        super().__init__()
        self.channels, self.levels, self.width = channels, levels, width
        widths = [width * 2**level for level in range(levels)]
        inputs = [channels, *widths]
        self.down = nn.ModuleList(
            _double_convolution(before, after)
            for before, after in zip(inputs, widths, strict=False)
        )
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reversed(widths[:-1])
        )
        self.merge = nn.ModuleList(_double_convolution(2 * w, w) for w in reversed(widths[:-1]))
        self.last = nn.Conv2d(width, channels, 1)
        _initialise(self, last=self.last)

    def noise(self, noisy: Tensor) -> Tensor:
        """As `Denoiser.noise`."""
        height, width = noisy.shape[-2:]
        multiple = 2 ** (self.levels - 1)
        padding = (0, -width % multiple, 0, -height % multiple)
        hidden = F.pad(noisy, padding, mode="replicate") if any(padding) else noisy
        skips: list[Tensor] = []
        for block in self.down:
            hidden = block(F.max_pool2d(hidden, 2) if skips else hidden)
            skips.append(hidden)
        skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            hidden = merge(torch.cat((up(hidden), skips.pop()), dim=1))
        noise: Tensor = self.last(hidden)
        return noise[..., :height, :width]


DENOISERS: dict[str, type[Denoiser]] = {kind.architecture: kind for kind in (DnCNN, MemNet, UNet)}


def build_denoiser(architecture: str, channels: int, numbers: Mapping[str, Any]) -> Denoiser:
    """A denoiser of the given architecture, which picks its sizes from `numbers`.

    Batch norm's constants are also taken from there: `norm_eps` and `norm_momentum`. Those that it
    lacks are PyTorch's.

    Raises:
        KeyError: for an unknown architecture, or when a size is missing.
    """
    kind = DENOISERS[architecture]
    denoiser = kind(channels, **{name: numbers[name] for name in kind.sizes})
    denoiser.set_batch_norm(eps=numbers.get("norm_eps"), momentum=numbers.get("norm_momentum"))
    return denoiser


class _MemoryBlock(nn.Module):
    """Source: Tai et al. 2017, Section 3.2; `long_term` earlier memories reach the gate."""

    def __init__(self, width: int, residual_blocks: int, long_term: int) -> None:
        super().__init__()
        self.residual = nn.ModuleList(
            nn.Sequential(_activated(width, width, 3), _activated(width, width, 3))
            for _ in range(residual_blocks)
        )
        self.gate = _activated(width * (residual_blocks + long_term), width, 1)

    def forward(self, memories: list[Tensor]) -> Tensor:
        hidden, short_term = memories[-1], []
        for block in self.residual:
            hidden = hidden + block(hidden)
            short_term.append(hidden)
        gated: Tensor = self.gate(torch.cat((*short_term, *memories), dim=1))
        return gated


def _activated(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Batch norm and ReLU before a convolution that keeps the size."""
    return nn.Sequential(
        nn.BatchNorm2d(inputs),
        nn.ReLU(inplace=True),
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
    )


def _double_convolution(inputs: int, outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, outputs):
        layers += [
            nn.Conv2d(channels, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*layers)


def _initialise(denoiser: nn.Module, last: nn.Module) -> None:
    for layer in denoiser.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
