"""Classifiers exported by `torch.export`: their graphs are run here, operator by operator.

`torch.export.load` can execute code from the file: pickled examples, weights and constants,
symbolic expressions, guards, compiled libraries; names from the file end up in generated code. Here
the graph and the weights are data, and only ATen operators and arithmetic on sizes are run.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import InputError, nearest
from trainables.torch_internals import file_numbers, is_operator
from trainables.weights.exported_graph import (
    DEVICE,
    TRAINING,
    Step,
    Value,
    find_operator,
    read_steps,
    value_names,
)

# The submodule of every exported network whose output is its features.
FEATURES = "features"

_MODEL = "models/model.json"
# Linear layers, and the argument that holds what goes into them.
_HEADS = {"aten.linear.default": "input", "aten.addmm.default": "mat1", "aten.mm.default": "self"}
_DYNAMIC = "export it with dynamic_shapes=({0: torch.export.Dim('batch')},)"


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
        self._steps = read_steps(module["graph"]["nodes"], {self._logits}, set(self._weights()))
        self._feature = _feature(self._steps, feature)
        self.features = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images.

        Raises:
            ValueError: for images of a different shape from those the program was exported with.
        """
        shape = tuple(images.shape)
        if len(shape) != len(self._shape) or any(
            wanted not in (None, size) for wanted, size in zip(self._shape, shape, strict=True)
        ):
            raise ValueError(f"the program was exported for images of shape {self._shape[1:]}")
        values: dict[str, Any] = {**self._weights(), self._image: images, DEVICE: images.device}
        for step in self._steps:
            inputs = {name: _resolve(value, values) for name, value in step.inputs.items()}
            _bind(step.outputs, _apply(find_operator(step.target), inputs), values)
            if self._feature in value_names(step.outputs):
                values[self._feature] = self.features(values[self._feature])
            for name in step.done_with:
                values.pop(name, None)
        logits: Tensor = values[self._logits]
        return logits

    def _weights(self) -> dict[str, Tensor]:
        return dict(self.named_buffers(recurse=False, remove_duplicate=False))

    def _register(self, inputs: list[Any], tensors: Mapping[str, Tensor]) -> str:
        """Register the weights as buffers; returns the name of the only other input."""
        images = []
        for ((kind, spec),) in (entry.items() for entry in inputs):
            if kind == "user_input":
                images.append(spec["arg"]["as_tensor"]["name"])
            elif kind in ("parameter", "buffer", "tensor_constant"):
                self.register_buffer(spec["arg"]["name"], tensors[spec[f"{kind}_name"]])
            else:
                raise InputError(f"needs an input of kind {kind!r}, which is not supported")
        if len(images) != 1:
            raise InputError(f"takes {len(images)} tensors, not just images")
        name: str = images[0]
        return name


def load_exported(path: Path, feature: str | None = None) -> ExportedNetwork:
    """The network in `path`, a file written by `torch.export.save`; no code of the file runs.

    The output of its submodule `FEATURES` is the input of the last linear layer or, with
    `feature`, the value of that name in the graph.

    Raises:
        InputError: when the file is damaged, or its program was exported for training or for a
            fixed batch size, or has operators other than ATen's.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", field="classifier")
    try:
        with zipfile.ZipFile(path) as archive:
            program, tensors = _read(archive)
        return ExportedNetwork(program, tensors, feature)
    except InputError as error:
        if error.field is not None:
            raise
        raise InputError(f"{path} {error}", field="classifier") from error
    except Exception as error:  # damaged files make almost anything fail
        raise InputError(
            f"{path} is damaged, or was not written by torch.export.save", field="classifier"
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
    if program["schema_version"]["major"] != file_numbers().version:
        raise InputError(f"has a different version; export it with PyTorch {torch.__version__}")
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
    dtype = file_numbers().dtypes[meta["dtype"]]
    flat = torch.frombuffer(bytearray(data), dtype=dtype) if data else torch.empty(0, dtype=dtype)
    size, stride = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    return flat.as_strided(size, stride, meta["storage_offset"]["as_int"]).clone()


def _image_shape(program: Mapping[str, Any], name: str) -> tuple[int | None, ...]:
    """The shape of the images, None where it may vary; the batch size must vary without bounds."""
    sizes = program["graph_module"]["graph"]["tensor_values"][name]["sizes"]
    if "as_int" in sizes[0]:
        raise InputError(f"takes only batches of {sizes[0]['as_int']} images; {_DYNAMIC}")
    symbol = re.findall(r"\w+", sizes[0]["as_expr"]["expr_str"].removeprefix("Symbol"))[0]
    most = program["range_constraints"].get(symbol, {}).get("max_val")
    if most is not None:
        raise InputError(f"takes batches of at most {most} images; {_DYNAMIC}")
    return tuple(size.get("as_int") for size in sizes)


def _only_output(outputs: list[Any]) -> str:
    kinds = [kind for entry in outputs for kind in entry]
    if "buffer_mutation" in kinds:
        raise InputError(TRAINING)
    found = [entry["user_output"]["arg"] for entry in outputs if "user_output" in entry]
    if len(found) != 1 or "as_tensor" not in found[0]:
        raise InputError(f"returns {len(found)} values, not just logits")
    name: str = found[0]["as_tensor"]["name"]
    return name


def _feature(steps: list[Step], wanted: str | None) -> str:
    known = [name for step in steps for name in value_names(step.outputs)]
    if wanted is None:
        heads = [step for step in steps if step.target in _HEADS]
        inputs = [step.inputs[_HEADS[step.target]].name for step in heads]
        if inputs and inputs[-1] in known:
            return str(inputs[-1])
        raise InputError(
            "the program has no linear layer whose input could be its features; name one of its "
            f"values, such as {', '.join(known[-4:])}",
            field="feature_layer",
        )
    if wanted not in known:
        raise InputError(
            f"the program has no value {wanted!r}{nearest(wanted, known)}", field="feature_layer"
        )
    return wanted


def _resolve(argument: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(argument, Value):
        return values[argument.name]
    if isinstance(argument, list):
        return [_resolve(item, values) for item in argument]
    return argument


def _apply(function: Callable[..., Any], inputs: Mapping[str, Any]) -> Any:
    # Python's own operators take no keyword arguments.
    return function(**inputs) if is_operator(function) else function(*inputs.values())


def _bind(outputs: list[Any], result: Any, values: dict[str, Any]) -> None:
    """Give the outputs of a step their names; several come as a sequence."""
    results = [result] if len(outputs) < 2 else result
    for output, value in zip(outputs, results, strict=False):
        if isinstance(output, Value):
            values[output.name] = value
        elif isinstance(output, list):
            _bind(output, value[0] if len(output) == 1 else value, values)
