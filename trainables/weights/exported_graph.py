"""The graph of an exported program, as steps: each an operator with its inputs and outputs.

Only ATen operators and arithmetic on sizes are known; everything else in a file is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import torch

from trainables.errors import InputError
from trainables.torch_internals import file_numbers, is_operator, takes_device
from trainables.weights.exported_operators import find_operator

# The name of the value that stands for the device of the images.
DEVICE = "the device of the images"
TRAINING = (
    "was exported in training mode, changes its weights, or has a batch norm without running "
    "statistics; call .eval() before torch.export.export"
)

_STEPS = 20_000
_TYPES = {torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool, torch.uint8}
_TYPES |= {torch.int8, torch.int16, torch.int32, torch.int64}


class Value(NamedTuple):
    """Stands for what an earlier step computed."""

    name: str


class Step(NamedTuple):
    """One operator: its inputs, the names of its outputs, and values that no later step needs."""

    target: str
    inputs: dict[str, Any]
    outputs: list[Any]
    done_with: tuple[str, ...] = ()


def read_steps(nodes: list[Any], images: str, kept: set[str]) -> list[Step]:
    """The steps of the serialised `nodes`, which compute the values `kept` from the `images`.

    Raises:
        InputError: for an operator that is not run from a file, or that acts as in training.
    """
    if len(nodes) > _STEPS:
        raise InputError(f"has {len(nodes)} steps, more than {_STEPS}")
    steps = []
    # Values that depend on the images.
    seen = {images}
    for node in nodes:
        target = node["target"].removeprefix("torch.ops.")
        # First, because most operators of training are not among the known ones.
        if any(_trains(given) for given in node["inputs"]) and not _standardises(node, seen):
            raise InputError(TRAINING)
        function = find_operator(target)
        inputs = {given["name"]: _decode(given["arg"]) for given in node["inputs"]}
        if is_operator(function) and takes_device(function):
            inputs["device"] = Value(DEVICE)
        outputs = [_decode(output) for output in node["outputs"]]
        if not seen.isdisjoint(value_names([*inputs.values()])):
            seen.update(value_names(outputs))
        steps.append(Step(target, inputs, outputs))
    # From the end: a value can be dropped after the last step that needs it.
    needed = set(kept)
    for index, step in reversed(list(enumerate(steps))):
        used = set(value_names([*step.inputs.values(), *step.outputs]))
        steps[index] = step._replace(done_with=tuple(used - needed))
        needed |= used
    return steps


def _trains(given: Mapping[str, Any]) -> bool:
    """Whether a serialised input makes an operator act as in training."""
    ((kind, value),) = given["arg"].items()
    return given["name"] in {"training", "train", "dropout_p"} and kind != "as_none" and bool(value)


def _standardises(node: Mapping[str, Any], seen: set[str]) -> bool:
    """Whether a serialised step normalises weights by their own statistics, as NFNets do."""
    given = {given["name"]: given["arg"] for given in node["inputs"]}
    norm = re.search(r"\.(batch_norm|_native_batch_norm_legit)\.", node["target"])
    return norm is not None and given["input"]["as_tensor"]["name"] not in seen


def run_steps(
    steps: list[Step], values: dict[str, Any], call: Callable[[Step, dict[str, Any]], Any]
) -> Iterator[Step]:
    """Run the steps one by one on `values`, by `call`; each is yielded when its outputs are known.

    What no later step needs is dropped afterwards.
    """
    for step in steps:
        inputs = {name: _resolve(value, values) for name, value in step.inputs.items()}
        _bind(step.outputs, call(step, inputs), values)
        yield step
        for name in step.done_with:
            values.pop(name, None)


def call_operator(step: Step, inputs: Mapping[str, Any]) -> Any:
    """The result of a step."""
    function = find_operator(step.target)
    # Python's own operators take no keyword arguments.
    return function(**inputs) if is_operator(function) else function(*inputs.values())


def _resolve(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Value):
        return values[argument.name]
    if isinstance(argument, list):
        return [_resolve(item, values) for item in argument]
    return argument


def _bind(outputs: list[Any], result: Any, values: dict[str, Any]) -> None:
    """Give the outputs of a step their names; several come as a sequence."""
    results = [result] if len(outputs) < 2 else result
    for output, value in zip(outputs, results, strict=False):
        if isinstance(output, Value):
            values[output.name] = value
        elif isinstance(output, list):
            _bind(output, value[0] if len(output) == 1 else value, values)


def number_type(number: int) -> torch.dtype:
    """The type of numbers that `number` stands for in a file.

    Raises:
        InputError: for types that classifiers do without, such as quantised and complex ones.
    """
    found = file_numbers().dtypes[number]
    if found not in _TYPES:
        raise InputError(f"uses numbers of type {found}, which is not supported")
    return found


def _decode(argument: Any) -> Any:
    """The value of a serialised argument; results of earlier steps remain references."""
    if isinstance(argument, list):
        return [_decode(item) for item in argument]
    if not isinstance(argument, dict):
        return argument
    if "name" in argument:
        return Value(argument["name"])
    ((kind, value),) = argument.items()
    if kind == "as_scalar_type":
        return number_type(value)
    if kind == "as_memory_format":
        return file_numbers().memory_formats[value]
    if kind == "as_layout":
        if file_numbers().layouts[value] is not torch.strided:
            raise InputError("uses sparse tensors, which are not supported")
        return torch.strided
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
