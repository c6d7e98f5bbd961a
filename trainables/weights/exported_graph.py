"""The graph of an exported program, as steps: each an operator with its inputs and outputs.

Only ATen operators and arithmetic on sizes are known; everything else in a file is refused.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from trainables.errors import InputError
from trainables.torch_internals import argument_names, file_numbers, is_operator, written_arguments

# The name of the value that stands for the device of the images.
DEVICE = "the device of the images"
TRAINING = (
    "was exported in training mode, or changes its weights; call .eval() before torch.export.export"
)

_ARITHMETIC = "add|sub|mul|floordiv|mod|truediv|neg|eq|ne|lt|le|gt|ge"
_TABLES: dict[str, Mapping[int, object]] = {
    "as_scalar_type": file_numbers().dtypes,
    "as_memory_format": file_numbers().memory_formats,
    "as_layout": file_numbers().layouts,
}


class Value(NamedTuple):
    """Stands for what an earlier step computed."""

    name: str


class Step(NamedTuple):
    """One operator: its inputs, the names of its outputs, and values that no later step needs."""

    target: str
    inputs: dict[str, Any]
    outputs: list[Any]
    done_with: tuple[str, ...] = ()


def read_steps(nodes: list[Any], kept: set[str], weights: set[str]) -> list[Step]:
    """The steps of the serialised `nodes`, which compute the values `kept`.

    Raises:
        InputError: for an operator that is not run from a file, that acts as in training, or that
            changes one of the `weights`.
    """
    steps = []
    for node in nodes:
        target = node["target"].removeprefix("torch.ops.")
        function = find_operator(target)
        inputs = {given["name"]: _decode(given["arg"]) for given in node["inputs"]}
        _refuse_training(function, inputs, weights)
        steps.append(Step(target, inputs, [_decode(output) for output in node["outputs"]]))
    # From the end: a value can be dropped after the last step that needs it.
    needed = set(kept)
    for index, step in reversed(list(enumerate(steps))):
        used = set(value_names([*step.inputs.values(), *step.outputs]))
        steps[index] = step._replace(done_with=tuple(used - needed))
        needed |= used
    return steps


def _refuse_training(
    function: Callable[..., Any], inputs: Mapping[str, Any], weights: set[str]
) -> None:
    """Refuse an operator that acts as in training, or that changes a weight."""
    names = written_arguments(function) if is_operator(function) else ()
    written = [inputs.get(name) for name in names]
    acts = inputs.get("training") is True or inputs.get("train") is True
    if acts or not weights.isdisjoint(value_names(written)):
        raise InputError(TRAINING)


@functools.cache
def find_operator(target: str) -> Callable[..., Any]:
    """The function that a step's target names.

    Raises:
        InputError: for anything but ATen's operators and arithmetic.
    """
    if match := re.fullmatch(rf"_operator\.({_ARITHMETIC})", target):
        found: Callable[..., Any] = getattr(operator, match[1])
        return found
    if re.fullmatch(r"torch\.sym_(max|min|not|int|float)", target):
        return getattr(torch, target.removeprefix("torch."))  # type: ignore[no-any-return]
    if match := re.fullmatch(r"aten\.(\w+)\.(\w+)", target):
        overload = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
        # Some of ATen's operators read and write files.
        if is_operator(overload) and "filename" not in argument_names(overload):
            return overload
    raise InputError(
        f"uses the operator {target!r}, which is not run from a file; export a network of plain "
        "ATen operators"
    )


def _decode(argument: Any) -> Any:
    """The value of a serialised argument; results of earlier steps remain references."""
    if isinstance(argument, list):
        return [_decode(item) for item in argument]
    if not isinstance(argument, dict):
        return argument
    if "name" in argument:
        return Value(argument["name"])
    ((kind, value),) = argument.items()
    if kind in _TABLES:
        return _TABLES[kind][value]
    if kind == "as_none":
        return None
    if kind == "as_name":
        return Value(value)
    if kind == "as_device":
        return Value(DEVICE)
    if kind == "as_float":
        return float(value)
    if re.fullmatch(r"as_(optional_)?(tensor|int|bool|string|sym_int|sym_bool|sym_float)s?", kind):
        return _decode(value)
    if kind == "as_floats":
        return [float(number) for number in value]
    raise InputError(f"has an argument of kind {kind!r}, which is not supported")


def value_names(arguments: Any) -> Iterator[str]:
    """The names of all values within `arguments`, which may be nested lists."""
    if isinstance(arguments, Value):
        yield arguments.name
    elif isinstance(arguments, list):
        for argument in arguments:
            yield from value_names(argument)
