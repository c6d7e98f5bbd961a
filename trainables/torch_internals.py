"""Private and undocumented names of PyTorch, and why this package uses them.

All of them are used only in this module; `check` says in one line which one is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import unwrap
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

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


# The functions that make dense tensors and parameters of what is in a checkpoint, as it names them.
# PyTorch allows more: wrappers, and tensors without data.
REBUILDING = {
    f"{function.__module__} {function.__name__}"
    for function in (
        torch._utils._rebuild_tensor,
        torch._utils._rebuild_tensor_v2,
        torch._utils._rebuild_parameter,
    )
}


def is_operator(function: object) -> TypeGuard[torch._ops.OpOverload[..., Any]]:
    """Whether `function` is an operator of ATen, not of Python.

    There is no public way to tell that a name from a file is an operator.
    """
    return isinstance(function, torch._ops.OpOverload)


def takes_device(operator: torch._ops.OpOverload[..., Any]) -> bool:
    """Whether an operator has a device among its arguments; without it, it would use the CPU."""
    return any(argument.name == "device" for argument in operator._schema.arguments)


class Watching(TorchDispatchMode):
    """A context in which `seen` is told of every operator of ATen that runs.

    It gets the operator, its arguments, its keyword arguments and its result. Composite operators
    appear as what they consist of.
    """

    def __init__(self, seen: Callable[[Any, tuple[Any, ...], dict[str, Any], Any], None]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._seen = seen

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Otherwise the first operator imports the compiler.
        return False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self._seen(func, args, kwargs or {}, result)
        return result


def changed(tensor: torch.Tensor) -> bool:
    """Whether a new tensor was written to, also through a view."""
    return tensor._version > 0


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
    assert takes_device(torch.ops.aten.ones.default), "the arguments of an operator changed"
    seen: list[object] = []
    tensor = torch.ones(2)
    with Watching(lambda operator, *_: seen.append(operator)):
        tensor.view(2, 1).relu_()
    assert seen[-1] is relu, "TorchDispatchMode does not see operators any more"
    assert changed(tensor), "a tensor does not count its changes any more"
    assert not has_hooks(nn.Identity()), "a new module has hooks"
