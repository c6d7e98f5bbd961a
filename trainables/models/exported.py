"""Classifiers exported by `torch.export`: their graphs are run here, operator by operator.

`torch.export.load` executes what a file brings along: pickled examples, weights and constants,
symbolic expressions, guards, compiled libraries; names from the file end up in generated code. Here
the graph and the weights are data, and nothing runs but ATen operators and arithmetic on sizes.
"""

from __future__ import annotations

import functools
import json
import operator
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._export.serde import schema, serialize

from trainables.errors import InputError
from trainables.models.classifiers import nearest

# The submodule of every exported network whose output is its features.
FEATURES = "features"

_MODEL = "models/model.json"
# Linear layers, and the argument that holds what goes into them.
_HEADS = {"aten.linear.default": "input", "aten.addmm.default": "mat1", "aten.mm.default": "self"}
_ARITHMETIC = "add|sub|mul|floordiv|mod|truediv|neg|eq|ne|lt|le|gt|ge"
_DEVICE = "the device of the images"
_DTYPES = serialize._SERIALIZE_TO_TORCH_DTYPE
_TABLES: dict[str, Mapping[int, object]] = {
    "as_scalar_type": _DTYPES,
    "as_memory_format": serialize._SERIALIZE_TO_TORCH_MEMORY_FORMAT,
    "as_layout": serialize._SERIALIZE_TO_TORCH_LAYOUT,
}
_DYNAMIC = "export it with dynamic_shapes=({0: torch.export.Dim('batch')},)"
_TRAINING = (
    "was exported in training mode, or changes its weights; call .eval() before torch.export.export"
)


class _Value(NamedTuple):
    """Stands for what an earlier step computed."""

    name: str


class _Step(NamedTuple):
    """One operator: its inputs, the names of its outputs, and the values no later step needs."""

    target: str
    inputs: dict[str, Any]
    outputs: list[Any]
    done_with: tuple[str, ...] = ()


class ExportedNetwork(nn.Module):
    """The network of a program: images [batch, C, H, W] -> logits; the weights are buffers.

    It pickles and copies like any module, and runs on the device its buffers are on.
    """

    def __init__(
        self, program: Mapping[str, Any], tensors: Mapping[str, Tensor], feature: str | None
    ) -> None:
        super().__init__()
        module = program["graph_module"]
        self._image = self._register(module["signature"]["input_specs"], tensors)
        self._shape = _image_shape(program, self._image)
        self._logits = _only_output(module["signature"]["output_specs"])
        self._steps = _steps(module["graph"]["nodes"], {self._logits}, set(self._buffers))
        self._feature = _feature(self._steps, feature)
        self.features = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images.

        Raises:
            ValueError: for images of another shape than those the program was exported with.
        """
        shape = tuple(images.shape)
        if len(shape) != len(self._shape) or any(
            wanted not in (None, size) for wanted, size in zip(self._shape, shape, strict=True)
        ):
            raise ValueError(f"the program was exported for images of shape {self._shape[1:]}")
        values: dict[str, Any] = {**self._buffers, self._image: images, _DEVICE: images.device}
        for step in self._steps:
            inputs = {name: _resolve(value, values) for name, value in step.inputs.items()}
            _bind(step.outputs, _apply(_operator(step.target), inputs), values)
            if self._feature in _names(step.outputs):
                values[self._feature] = self.features(values[self._feature])
            for name in step.done_with:
                values.pop(name, None)
        logits: Tensor = values[self._logits]
        return logits

    def _register(self, inputs: list[Any], tensors: Mapping[str, Tensor]) -> str:
        """Make the weights buffers; the name of the one other input."""
        images = []
        for ((kind, spec),) in (entry.items() for entry in inputs):
            if kind == "user_input":
                images.append(spec["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                self.register_buffer(spec["arg"]["name"], tensors[spec[f"{kind}_name"]])
            else:
                raise InputError(f"needs an input of the kind {kind!r}, which is not supported")
        if len(images) != 1:
            raise InputError(f"takes {len(images)} tensors, not images alone")
        name: str = images[0]
        return name


def load_exported(path: Path, feature: str | None = None) -> ExportedNetwork:
    """The network in `path`, a file written by `torch.export.save`; no code of the file runs.

    The output of its submodule `FEATURES` is the input of the last linear layer or, with
    `feature`, the value of that name in the graph.

    Raises:
        InputError: when the file is damaged, or its program was exported for training or for one
            size of batch, or has operators other than ATen's.
    """
    if not path.is_file():
        raise InputError(f"--classifier: {path} does not exist")
    try:
        with zipfile.ZipFile(path) as archive:
            program, tensors = _read(archive)
        return ExportedNetwork(program, tensors, feature)
    except InputError as error:
        text = str(error)
        prefix = "" if text.startswith("--") else f"--classifier: {path} "
        raise InputError(prefix + text) from error
    except Exception as error:  # damaged files make almost anything fail
        raise InputError(
            f"--classifier: {path} is damaged or no program of torch.export.save"
        ) from error


def _read(archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The program, and its weights and constants by name."""
    roots = [n.removesuffix(_MODEL) for n in archive.namelist() if n.endswith(f"/{_MODEL}")]
    if len(roots) != 1:
        raise InputError(
            "holds no program that this PyTorch can read; write it with torch.export.save of "
            f"PyTorch {torch.__version__}, not compiled"
        )
    program: dict[str, Any] = json.loads(archive.read(roots[0] + _MODEL))
    if program["schema_version"]["major"] != schema.SCHEMA_VERSION[0]:
        raise InputError(f"is of another version; export it with PyTorch {torch.__version__}")
    tensors = {}
    for kind in ("weights", "constants"):
        folder = f"{roots[0]}data/{kind}/"
        config = json.loads(archive.read(f"{folder}model_{kind}_config.json"))["config"]
        for name, payload in config.items():
            if payload["use_pickle"]:
                raise InputError(
                    f"holds {name!r} as a pickle, which could execute code; export plain tensors"
                )
            tensors[name] = _tensor(archive.read(folder + payload["path_name"]), payload)
    return program, tensors


def _tensor(data: bytes, payload: Mapping[str, Any]) -> Tensor:
    meta = payload["tensor_meta"]
    dtype = _DTYPES[meta["dtype"]]
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    size, stride = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    return flat.as_strided(size, stride, meta["storage_offset"]["as_int"]).clone()


def _image_shape(program: Mapping[str, Any], name: str) -> tuple[int | None, ...]:
    """The shape of the images, None where it may vary; the batch must, without bounds."""
    sizes = program["graph_module"]["graph"]["tensor_values"][name]["sizes"]
    if "as_int" in sizes[0]:
        raise InputError(f"takes batches of {sizes[0]['as_int']} images alone; {_DYNAMIC}")
    symbol = re.findall(r"\w+", sizes[0]["as_expr"]["expr_str"].removeprefix("Symbol"))[0]
    most = program["range_constraints"].get(symbol, {}).get("max_val")
    if most is not None:
        raise InputError(f"takes batches of {most} images at most; {_DYNAMIC}")
    return tuple(size.get("as_int") for size in sizes)


def _only_output(outputs: list[Any]) -> str:
    kinds = [kind for entry in outputs for kind in entry]
    if "buffer_mutation" in kinds:
        raise InputError(_TRAINING)
    found = [entry["user_output"]["arg"] for entry in outputs if "user_output" in entry]
    if len(found) != 1 or "as_tensor" not in found[0]:
        raise InputError(f"returns {len(found)} values, not logits alone")
    name: str = found[0]["as_tensor"]["name"]
    return name


def _steps(nodes: list[Any], kept: set[str], weights: set[str]) -> list[_Step]:
    steps = []
    for node in nodes:
        target = node["target"].removeprefix("torch.ops.")
        function = _operator(target)
        inputs = {given["name"]: _decode(given["arg"]) for given in node["inputs"]}
        _refuse_training(function, inputs, weights)
        steps.append(_Step(target, inputs, [_decode(output) for output in node["outputs"]]))
    # From the end: a value is done with after the last step that needs it.
    needed = set(kept)
    for index, step in reversed(list(enumerate(steps))):
        used = set(_names([*step.inputs.values(), *step.outputs]))
        steps[index] = step._replace(done_with=tuple(used - needed))
        needed |= used
    return steps


def _refuse_training(
    function: Callable[..., Any], inputs: Mapping[str, Any], weights: set[str]
) -> None:
    """Refuse an operator that acts as in training, or that changes a weight."""
    written = []
    if isinstance(function, torch._ops.OpOverload):
        for argument in function._schema.arguments:
            if argument.alias_info is not None and argument.alias_info.is_write:
                written.append(inputs.get(argument.name))
    acts = inputs.get("training") is True or inputs.get("train") is True
    if acts or not weights.isdisjoint(_names(written)):
        raise InputError(_TRAINING)


@functools.cache
def _operator(target: str) -> Callable[..., Any]:
    if match := re.fullmatch(rf"_operator\.({_ARITHMETIC})", target):
        found: Callable[..., Any] = getattr(operator, match[1])
        return found
    if re.fullmatch(r"torch\.sym_(max|min|not|int|float)", target):
        return getattr(torch, target.removeprefix("torch."))  # type: ignore[no-any-return]
    if match := re.fullmatch(r"aten\.(\w+)\.(\w+)", target):
        overload = getattr(getattr(torch.ops.aten, match[1], None), match[2], None)
        # Some of ATen's operators read and write files.
        if isinstance(overload, torch._ops.OpOverload) and not any(
            argument.name == "filename" for argument in overload._schema.arguments
        ):
            return overload
    raise InputError(
        f"uses the operator {target!r}, which is not run from a file; export a network of plain "
        "ATen operators"
    )


def _feature(steps: list[_Step], wanted: str | None) -> str:
    known = [name for step in steps for name in _names(step.outputs)]
    if wanted is None:
        heads = [step for step in steps if step.target in _HEADS]
        inputs = [step.inputs[_HEADS[step.target]].name for step in heads]
        if inputs and inputs[-1] in known:
            return str(inputs[-1])
        raise InputError(
            "--feature-layer: the program has no linear layer whose input could be its features; "
            f"name one of its values, such as {', '.join(known[-4:])}"
        )
    if wanted not in known:
        raise InputError(
            f"--feature-layer: the program has no value {wanted!r}{nearest(wanted, known)}"
        )
    return wanted


def _decode(argument: Any) -> Any:
    """What a serialised argument stands for; values of earlier steps stay references."""
    if isinstance(argument, list):
        return [_decode(item) for item in argument]
    if not isinstance(argument, dict):
        return argument
    if "name" in argument:
        return _Value(argument["name"])
    ((kind, value),) = argument.items()
    if kind in _TABLES:
        return _TABLES[kind][value]
    if kind == "as_none":
        return None
    if kind == "as_name":
        return _Value(value)
    if kind == "as_device":
        return _Value(_DEVICE)
    if kind == "as_float":
        return float(value)
    if re.fullmatch(r"as_(optional_)?(tensor|int|bool|string|sym_int|sym_bool|sym_float)s?", kind):
        return _decode(value)
    if kind == "as_floats":
        return [float(number) for number in value]
    raise InputError(f"has an argument of the kind {kind!r}, which is not supported")


def _resolve(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, _Value):
        return values[argument.name]
    if isinstance(argument, list):
        return [_resolve(item, values) for item in argument]
    return argument


def _apply(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    # Python's own operators take no names.
    is_aten = isinstance(function, torch._ops.OpOverload)
    return function(**inputs) if is_aten else function(*inputs.values())


def _bind(outputs: list[Any], result: Any, values: dict[str, Any]) -> None:
    """Give the outputs of a step their names; several come as a sequence."""
    results = [result] if len(outputs) < 2 else result
    for output, value in zip(outputs, results, strict=False):
        if isinstance(output, _Value):
            values[output.name] = value
        elif isinstance(output, list):
            _bind(output, value[0] if len(output) == 1 else value, values)


def _names(arguments: Any) -> Iterator[str]:
    if isinstance(arguments, _Value):
        yield arguments.name
    elif isinstance(arguments, list):
        for argument in arguments:
            yield from _names(argument)
