"""A faster copy of a frozen network: batch norm folded into convolutions, channels last."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from trainables.models.classifiers import BaseClassifier

Network = TypeVar("Network", bound=nn.Module)
# Folding reorders float32 sums; a larger difference means that it was not valid.
MAX_DIFFERENCE = 1e-3


def folded(network: Network, images: Tensor) -> Network:
    """A copy of `network` that computes the same up to rounding, but faster.

    `images` [n, C, H, W] are examples, on which the copy is compared with the original. If folding
    or the layout changes the outputs, or does not run, it is left out. A copy that is channels last
    runs in either layout; the other ones must keep theirs.
    """
    # In full precision: rounding to bfloat16 or TF32 would hide whether both compute the same.
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False), without_tf32():
        # Before copying, because weights that a pass computes can be copied only after it.
        expected = _outputs(network, images)
        # Networks that use `view` run only in the layout for which they were written.
        for layout in (torch.channels_last, torch.contiguous_format):
            for fold in (True, False):
                with suppress(Exception):  # a foreign network can raise anything
                    faster = _laid_out(network, layout)
                    for convolution, norm in _pairs(faster, images) if fold else ():
                        _fold(faster, convolution, norm)
                    found = _outputs(faster, images)
                    if all(close(a, b) for a, b in zip(expected, found, strict=True)):
                        return faster
    return _laid_out(network, torch.contiguous_format)


@contextmanager
def without_tf32() -> Iterator[None]:
    """Compute float32 in float32, and convolutions by the same algorithms each time.

    PyTorch lets convolutions on a GPU round to TF32, and matrix products as well where a program
    allows it. The rounding error of TF32's ten-bit mantissa is larger than the difference between
    two orders of the same sums.
    """
    flags = torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)
    with flags, _exact_products():
        yield


@contextmanager
def _exact_products() -> Iterator[None]:
    """Matrix products in float32, however the program set their precision."""
    set_precision: Callable[[str], None] = torch.set_float32_matmul_precision
    exact = "highest"
    try:
        allowed = torch.get_float32_matmul_precision()
    except RuntimeError:
        # The program uses PyTorch's newer setting, after which the older one cannot be read.
        matmul = torch.backends.cuda.matmul
        set_precision, exact = partial(setattr, matmul, "fp32_precision"), "ieee"
        allowed = matmul.fp32_precision
    if allowed == exact:
        yield
        return
    set_precision(exact)
    try:
        yield
    finally:
        set_precision(allowed)


def _outputs(network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    """All outputs of the network that callers use."""
    if isinstance(network, BaseClassifier):
        return network.outputs(images)
    return (network(images),)


def _laid_out(network: Network, layout: torch.memory_format) -> Network:
    """A copy of `network` with weights and images in `layout`; `lay_out` may change that."""
    copied = copy.deepcopy(network)
    lay_out(copied, layout)
    # Not `contiguous`, which leaves images of one channel as they are in either layout.
    copied.register_forward_pre_hook(
        lambda module, inputs: (inputs[0].to(memory_format=layout_of(module)),)
    )
    return copied


def lay_out(network: nn.Module, layout: torch.memory_format) -> None:
    """Put the weights of a `folded` network into `layout`, and from now on its images as well."""
    network.to(memory_format=layout)
    network.folded_layout = layout  # type: ignore[assignment]


def layout_of(network: nn.Module) -> torch.memory_format:
    """The layout of a `folded` network."""
    layout = network.folded_layout
    assert isinstance(layout, torch.memory_format)
    return layout


def _pairs(network: nn.Module, images: Tensor) -> list[tuple[str, str]]:
    """Names of convolutions and of the batch norms on their outputs, found in one pass."""
    names = {module: name for name, module in network.named_modules()}
    outputs: list[tuple[Tensor, str]] = []
    uses: dict[str, list[str]] = {}

    def produced(module: nn.Module, _: Any, output: Tensor) -> None:
        outputs.append((output, names[module]))

    def consumed(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        for output, name in outputs:
            if inputs and inputs[0] is output:
                uses.setdefault(name, []).append(names[module])

    handles = []
    for module in names:
        if isinstance(module, nn.Conv2d):
            handles.append(module.register_forward_hook(produced))
        elif isinstance(module, nn.BatchNorm2d):
            handles.append(module.register_forward_pre_hook(consumed))
    network(images)
    for handle in handles:
        handle.remove()
    norms = [norm for found in uses.values() for norm in found]
    return [
        (convolution, found[0])
        for convolution, found in uses.items()
        if len(found) == 1 and norms.count(found[0]) == 1
    ]


def _fold(network: nn.Module, convolution: str, norm: str) -> None:
    layer, statistics = network.get_submodule(convolution), network.get_submodule(norm)
    assert isinstance(layer, nn.Conv2d)
    assert isinstance(statistics, nn.BatchNorm2d)
    fused = fuse_conv_bn_eval(layer, statistics).requires_grad_(False)
    network.set_submodule(convolution, fused)
    network.set_submodule(norm, nn.Identity())


def close(expected: Tensor, found: Tensor) -> bool:
    """Whether two outputs differ only by rounding, as sums in a different order do."""
    scale = expected.abs().max().clamp_min(1.0)
    return bool((expected - found).abs().max() <= MAX_DIFFERENCE * scale)
