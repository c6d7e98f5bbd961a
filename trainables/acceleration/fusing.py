"""Convolutions with addition and ReLU in the same kernel of an NVIDIA GPU.

Otherwise the activations would go to the GPU's memory and back between a convolution and its ReLU,
which takes longer than the arithmetic.
"""

from __future__ import annotations

import copy
import operator
from contextlib import suppress

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from trainables.acceleration.folding import Network, close, without_tf32
from trainables.torch_internals import convolution_add_relu, convolution_relu, has_hooks

_RELUS: tuple[object, ...] = (nn.ReLU, F.relu, F.relu_, torch.relu, torch.relu_, "relu", "relu_")
_SUMS: tuple[object, ...] = (operator.add, operator.iadd, torch.add, "add", "add_")


class FusedConvolution(nn.Module):
    """relu(convolution(images) + added), [batch, channels, H, W]."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert not isinstance(convolution.padding, str)
        self.convolution, self.padding = convolution, convolution.padding

    def forward(self, images: Tensor, added: Tensor | None = None) -> Tensor:
        """The activations; `added`, if given, has their shape.

        Raises:
            ValueError: when `added` has a different shape, which the kernel does not support.
        """
        conv = self.convolution
        if images.is_cuda and torch.version.cuda:
            geometry = (conv.stride, self.padding, conv.dilation, conv.groups)
            if added is None:
                return convolution_relu(images, conv.weight, conv.bias, *geometry)
            return convolution_add_relu(images, conv.weight, added, 1.0, conv.bias, *geometry)
        hidden: Tensor = conv(images)
        if added is None:
            return F.relu_(hidden)
        if added.shape != hidden.shape:
            raise ValueError(f"{tuple(added.shape)} cannot be added to {tuple(hidden.shape)}")
        return F.relu_(hidden.add_(added))


class _Tracer(fx.Tracer):
    """Keeps linear layers of other libraries whole as well, because votes change the last one."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Whether the module becomes one call of the graph."""
        return isinstance(m, nn.Linear) or super().is_leaf_module(m, module_qualified_name)


def fused(network: Network, images: Tensor) -> Network:
    """A copy of `network`, in evaluation mode, with convolutions fused where that is possible.

    It has no gradients. It is compared with the original on the examples `images` [n, C, H, W]; if
    they differ, or if the code cannot be traced, the original is returned.
    """
    # A foreign network can raise anything.
    with suppress(Exception), torch.no_grad(), without_tf32():
        faster = _rewritten(copy.deepcopy(network))
        if close(network(images), faster(images)):
            return faster
    return network


def _rewritten(module: Network) -> Network:
    """An equivalent of `module` in which its convolutions, or those of its parts, are fused."""
    # Tracing would lose the module's own hooks.
    if not has_hooks(module):
        with suppress(Exception):
            tracer = _Tracer()
            traced = fx.GraphModule(module, tracer.trace(module))
            if _fuse_all(traced):
                # Fails for a module that cannot be pickled, and so cannot be sent to a worker.
                traced.__reduce__()
                return traced  # type: ignore[return-value]
            return module
    for name, child in module.named_children():
        module.add_module(name, _rewritten(child))
    return module


def _fuse_all(traced: fx.GraphModule) -> bool:
    """Fuse everything that can be fused; returns whether there was anything."""
    found = False
    for node in list(traced.graph.nodes):
        if _is(node, traced, (nn.Identity,)):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    for node in list(traced.graph.nodes):
        if _is(node, traced, _RELUS):
            found |= _fuse(traced, node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return found


def _fuse(traced: fx.GraphModule, relu: fx.Node) -> bool:
    """Fuse a ReLU with the convolution before it, and with a sum between them."""
    source = relu.args[0]
    assert isinstance(source, fx.Node)
    taken, added = [relu], None
    if _is(source, traced, _SUMS) and len(source.users) == 1 and not source.kwargs:
        taken.append(source)
        # The later one, so that the other operand is computed by then.
        operands = [node for node in source.args if isinstance(node, fx.Node)]
        candidates = [node for node in operands if _fusible(node, traced)]
        if len(operands) != 2 or not candidates:
            return False
        source = max(candidates, key=list(traced.graph.nodes).index)
        (added,) = (node for node in operands if node is not source)
    elif not _fusible(source, traced):
        return False
    name = str(source.target)
    convolution = traced.get_submodule(name)
    assert isinstance(convolution, nn.Conv2d)
    traced.set_submodule(name, FusedConvolution(convolution))
    with traced.graph.inserting_before(relu):
        node = traced.graph.call_module(name, (source.args[0], *([added] if added else [])))
    relu.replace_all_uses_with(node)
    for old in (*taken, source):
        traced.graph.erase_node(old)
    return True


def _fusible(node: fx.Node, traced: fx.GraphModule) -> bool:
    """Whether `node` is a convolution that is called once, and whose output is used once."""
    if not _is(node, traced, (nn.Conv2d,)) or len(node.users) != 1:
        return False
    layer = traced.get_submodule(str(node.target))
    assert isinstance(layer, nn.Conv2d)
    plain = type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and layer.groups == 1
    calls = sum(other.target == node.target for other in traced.graph.nodes)
    return plain and not has_hooks(layer) and not isinstance(layer.padding, str) and calls == 1


def _is(node: fx.Node, traced: fx.GraphModule, kinds: tuple[object, ...]) -> bool:
    """Whether `node` calls one of these modules, functions or methods."""
    if node.op == "call_module":
        classes = tuple(kind for kind in kinds if isinstance(kind, type))
        return isinstance(traced.get_submodule(str(node.target)), classes)
    return node.op in {"call_function", "call_method"} and node.target in kinds
