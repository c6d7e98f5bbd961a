"""What a pass of an exported program takes, found by running it without computing anything.

A program from a file may ask for any amount of memory and time, in a few bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from trainables.errors import InputError, describe_error
from trainables.torch_internals import Watching, changed, is_operator
from trainables.weights.exported_graph import (
    DEVICE,
    TRAINING,
    Step,
    call_operator,
    run_steps,
    value_names,
)
from trainables.weights.exported_operators import check_arithmetic, check_numbers, find_operator

# For each image: bytes at one time, and operations. The largest classifiers in use, at 600 x 600
# pixels, take about half of them.
_BYTES = 2**29
_OPERATIONS = 2**39
# Reading or writing a number takes about as long as this many operations of a convolution.
_ACCESS = 16
# For a pass.
_TENSORS = 2**18
_DIMENSIONS = 16
_VIEWS = {"aten.view.default", "aten._unsafe_view.default"}


def check_pass(steps: list[Step], weights: Mapping[str, Tensor], name: str, images: Tensor) -> None:
    """Run the steps on tensors like these without data: `weights`, and `images` called `name`.

    Raises:
        InputError: when they fail, take more than a classifier needs, use numbers with which an
            operator would leave a tensor's memory, or change the weights.
    """
    try:
        _pass(steps, weights, name, images)
    except InputError:
        raise
    except Exception as error:  # steps that do not fit together fail in almost any way
        raise InputError(
            f"fails on images of shape {tuple(images.shape[1:])}: {describe_error(error)}"
        ) from error


def _pass(steps: list[Step], weights: Mapping[str, Tensor], name: str, images: Tensor) -> None:
    usage = _Usage(max(1, len(images)))
    # Not inference mode, in which changes are not counted.
    with torch.inference_mode(False), torch.no_grad():
        copies = {name: tensor.to("meta") for name, tensor in weights.items()}
        values = {**copies, name: images.to("meta"), DEVICE: torch.device("meta")}
        for step in run_steps(steps, values, usage.call):
            usage.keep(step, values)
    if any(map(changed, copies.values())):
        raise InputError(TRAINING)


class _Usage:
    """What a pass of `batch` images took so far."""

    def __init__(self, batch: int) -> None:
        self._batch = batch
        self._operations = self._tensors = 0
        self._kept: dict[str, int] = {}
        self._total = 0
        self._step = ""

    def call(self, step: Step, inputs: dict[str, Any]) -> Any:
        """The result of a step, on tensors without data."""
        if not is_operator(find_operator(step.target)):
            check_arithmetic(inputs)
            return call_operator(step, inputs)
        check_numbers(step.target, inputs)
        self._step = step.target
        if step.target in _VIEWS:
            # Strides can differ from those of tensors with data.
            step = step._replace(target="aten.reshape.default")
            inputs = {"self": inputs["self"], "shape": inputs["size"]}
        with Watching(self._count):
            return call_operator(step, inputs)

    def keep(self, step: Step, values: Mapping[str, Any]) -> None:
        """Count the memory of the step's outputs until no later step needs them."""
        for name in value_names(step.outputs):
            self._add(name, sum(map(_size, _tensors(values.get(name)))))
        for name in step.done_with:
            self._add(name, 0)

    def _add(self, name: str, size: int) -> None:
        self._total += size - self._kept.pop(name, 0)
        self._kept[name] = size
        self._check(self._total, _BYTES, "bytes")

    def _count(
        self, operator: Any, arguments: tuple[Any, ...], named: dict[str, Any], result: Any
    ) -> None:
        """Count what an operator takes, which may be a part of a composite one."""
        found = [*_tensors(result)]
        for tensor in found:
            if tensor.ndim > _DIMENSIONS:
                raise InputError(f"has {self._step} with {tensor.ndim} dimensions")
            self._check(_size(tensor), _BYTES, "bytes")
        self._tensors += len(found)
        if self._tensors > _TENSORS:
            raise InputError(f"makes more than {_TENSORS} tensors in a pass")
        accessed = [*found, *_tensors((arguments, named))]
        self._operations += _ACCESS * sum(math.prod(tensor.shape) for tensor in accessed)
        self._operations += _operations(operator, arguments, named, result)
        self._check(self._operations, _OPERATIONS, "operations")

    def _check(self, number: int, most: int, unit: str) -> None:
        if number > most * self._batch:
            raise InputError(
                f"takes {number:,} {unit} for {self._batch} images at {self._step}, more than "
                f"{most:,} for each; export a smaller network"
            )


def _operations(
    operator: Any, arguments: tuple[Any, ...], named: Mapping[str, Any], result: Any
) -> int:
    # Imported here, because it imports Triton.
    from torch.utils.flop_counter import flop_registry

    formula = flop_registry.get(operator.overloadpacket)
    if formula is not None:
        return int(formula(*arguments, **named, out_val=result))
    if "pool" in operator.overloadpacket.__name__ and len(arguments) > 1:
        # Each number of the output is that of a window, which ends where the image does.
        first, window = next(_tensors(result)), arguments[1]
        sides = [min(pair) for pair in zip(window * 2, arguments[0].shape[-2:], strict=False)]
        return math.prod([*first.shape, *sides])
    return 0


def _tensors(value: Any) -> Iterator[Tensor]:
    """All tensors within `value`."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _size(tensor: Tensor) -> int:
    # Not numel(), which can overflow.
    return math.prod(tensor.shape) * tensor.element_size()
