"""Exported programs, and how they are refused."""

from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.weights.exported import load_exported

# The file of a program, and the network that it was exported from.
Program: TypeAlias = tuple[Path, nn.Module]


def random_images(count: int = 3, channels: int = 1, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, channels, size, size, generator=generator)


def with_statistics(network: nn.Module) -> nn.Module:
    """The network with batch norms that do not just scale by one."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network.eval()


def export(
    path: Path,
    network: nn.Module,
    images: Tensor,
    *,
    decomposed: bool = False,
    most: int | None = None,
    dynamic: bool = True,
) -> Path:
    shapes = ({0: torch.export.Dim("batch", max=most)},) if dynamic else None
    program = torch.export.export(network, (images,), dynamic_shapes=shapes)
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    return path


def refusal(path: Path, feature: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        load_exported(path, feature)
    message = str(caught.value)
    assert "\n" not in message
    return message
