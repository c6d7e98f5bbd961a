"""Private and undocumented names of PyTorch, and why this package uses them.

All of them are used only in this module; `check` says in one line which one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from inspect import unwrap
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode


class FileNumbers(NamedTuple):
    """The numbers that stand for types, memory formats and layouts in a `torch.export` file."""

    version: int
    dtypes: Mapping[int, torch.dtype]
    memory_formats: Mapping[int, object]
    layouts: Mapping[int, object]


@cache
def file_numbers() -> FileNumbers:
    """What `torch.export.save` of this PyTorch writes.

    PyTorch's own reader, which has these tables, executes code from the file.
    """
    # Imported here, because it takes a second.
    from torch._export.serde import schema, serialize

    return FileNumbers(
        schema.SCHEMA_VERSION[0],
        serialize._SERIALIZE_TO_TORCH_DTYPE,
        serialize._SERIALIZE_TO_TORCH_MEMORY_FORMAT,
        serialize._SERIALIZE_TO_TORCH_LAYOUT,
    )


def is_operator(function: object) -> TypeGuard[torch._ops.OpOverload[..., Any]]:
    """Whether `function` is an operator of ATen, not of Python.

    There is no public way to tell that a name from a file is an operator.
    """
    return isinstance(function, torch._ops.OpOverload)


def argument_names(operator: torch._ops.OpOverload[..., Any]) -> Iterator[str]:
    """The names of an operator's arguments; operators whose arguments name files are refused."""
    return (argument.name for argument in operator._schema.arguments)


def written_arguments(operator: torch._ops.OpOverload[..., Any]) -> Iterator[str]:
    """The names of the arguments that an operator modifies; weights must not be among them."""
    for argument in operator._schema.arguments:
        if argument.alias_info is not None and argument.alias_info.is_write:
            yield argument.name


def has_hooks(module: nn.Module) -> bool:
    """Whether calling `module` runs hooks, which symbolic tracing would lose."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


# cuDNN's convolutions with addition and ReLU in the same kernel; they are not documented.
convolution_relu: Callable[..., torch.Tensor] = torch.cudnn_convolution_relu
convolution_add_relu: Callable[..., torch.Tensor] = torch.cudnn_convolution_add_relu


class Adam(torch.optim.Adam):
    """PyTorch's Adam, which imports no compiler.

    Each method of an optimiser is wrapped for `torch.compile`, and the first call imports
    `torch._dynamo`: two seconds in every process that trains.
    """

    add_param_group = unwrap(torch.optim.Adam.add_param_group)
    load_state_dict = unwrap(torch.optim.Adam.load_state_dict)
    state_dict = unwrap(torch.optim.Adam.state_dict)
    step = torch.no_grad()(unwrap(torch.optim.Adam.step))
    zero_grad = unwrap(torch.optim.Adam.zero_grad)


def operation_counter() -> FlopCounterMode:
    """PyTorch's counter of operations, which imports no compiler either."""
    # Imported here, because it imports Triton.
    from torch.utils import flop_counter

    mode: Any = flop_counter._FlopCounterMode
    mode.__torch_dispatch__ = unwrap(mode.__torch_dispatch__)
    return flop_counter.FlopCounterMode(display=False)


def check() -> None:
    """Use every name once.

    Raises:
        AttributeError, ImportError: naming the first that this PyTorch lacks.
    """
    numbers = file_numbers()
    assert torch.float32 in numbers.dtypes.values(), "torch.export's numbers of types changed"
    relu = torch.ops.aten.relu_.default
    assert is_operator(relu), "torch.ops.aten gives no torch._ops.OpOverload any more"
    assert list(argument_names(relu)) == ["self"], "the arguments of an operator changed"
    assert list(written_arguments(relu)) == ["self"], "alias_info of an operator changed"
    assert not has_hooks(nn.Identity()), "a new module has hooks"
