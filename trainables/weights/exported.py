"""Classifiers exported by `torch.export`: their graphs are run here, operator by operator.

`torch.export.load` can execute code from the file: pickled examples, weights and constants,
symbolic expressions, guards, compiled libraries; names from the file end up in generated code. Here
the graph and the weights are data, and only ATen operators and arithmetic on sizes are run.
"""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import InputError, nearest
from trainables.models.blueprint import Blueprint
from trainables.torch_internals import file_numbers
from trainables.weights.archives import open_archive
from trainables.weights.exported_graph import (
    DEVICE,
    TRAINING,
    Step,
    call_operator,
    number_type,
    read_steps,
    run_steps,
    value_names,
)
from trainables.weights.exported_limits import check_pass

# The submodule of every exported network whose output is its features.
FEATURES = "features"

_MODEL = "models/model.json"
# Linear layers, and the argument that holds what goes into them.
_HEADS = {"aten.linear.default": "input", "aten.addmm.default": "mat1", "aten.mm.default": "self"}
# The largest description of a network in bytes, and how often weights may be used again.
_JSON, _SHARED = 2**25, 8
_DYNAMIC = "export it with dynamic_shapes=({0: torch.export.Dim('batch')},)"


class ExportedNetwork(nn.Module):
    """The network of a program: images [batch, C, H, W] -> logits; the weights are buffers.

    It pickles and copies like any module, and runs on the device its buffers are on. `blueprint`
    says how to build it again.
    """

    def __init__(
        self, program: Mapping[str, Any], tensors: Mapping[str, Tensor], feature: str | None
    ) -> None:
        super().__init__()
        module = program["graph_module"]
        self._image = self._register(module["signature"]["input_specs"], tensors)
        self._shape = _image_shape(program, self._image)
        self._logits = _only_output(module["signature"]["output_specs"])
        self._steps = read_steps(module["graph"]["nodes"], self._image, {self._logits})
        self._feature = _feature(self._steps, feature)
        self.blueprint = _blueprint(program, self._image, self._feature)
        self.features = nn.Identity()
        self._checked: set[torch.Size] = set()

    def forward(self, images: Tensor) -> Tensor:
        """Logits [batch, classes] of normalised images.

        Raises:
            InputError: when such a batch would take more than a classifier needs.
            ValueError: for images of a different shape from those the program was exported with.
        """
        shape = tuple(images.shape)
        if len(shape) != len(self._shape) or any(
            wanted not in (None, size) for wanted, size in zip(self._shape, shape, strict=True)
        ):
            raise ValueError(f"the program was exported for images of shape {self._shape[1:]}")
        # In a program that is made of this one, the number of images is not known.
        if not torch.compiler.is_exporting() and images.shape not in self._checked:
            try:
                self.check(images)
            except InputError as error:
                raise InputError(f"the program {error}", field="classifier") from error
        values: dict[str, Any] = {**self._weights(), self._image: images, DEVICE: images.device}
        for step in run_steps(self._steps, values, call_operator):
            if self._feature in value_names(step.outputs):
                values[self._feature] = self.features(values[self._feature])
        logits: Tensor = values[self._logits]
        return logits

    def check(self, images: Tensor | None = None) -> None:
        """Refuse what a pass of such images would do or take; by default two, of known shape.

        Raises:
            InputError: see `check_pass`.
        """
        if images is None and None not in self._shape[1:]:
            images = torch.empty(2, *self._shape[1:], device="meta")  # type: ignore[arg-type]
        if images is not None:
            check_pass(self._steps, self._weights(), self._image, images)
            self._checked.add(images.shape)

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
            fixed batch size, has operators that image classifiers do without, or takes more
            memory or time than they do.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", field="classifier")
    try:
        with open_archive(path) as archive:
            program, tensors = _read(archive)
        network = ExportedNetwork(program, tensors, feature)
        network.check()
    except InputError as error:
        if error.field is not None:
            raise
        raise InputError(f"{path} {error}", field="classifier") from error
    except Exception as error:  # damaged files make almost anything fail
        raise InputError(
            f"{path} is damaged, or was not written by torch.export.save", field="classifier"
        ) from error
    return network


def _blueprint(program: Mapping[str, Any], image: str, feature: str) -> Blueprint:
    """What `rebuilt` needs besides the weights, without the stack traces that are in a file."""
    module = program["graph_module"]
    graph, signature = module["graph"], module["signature"]
    nodes = [{key: node[key] for key in ("target", "inputs", "outputs")} for node in graph["nodes"]]
    needed = {
        "graph_module": {
            "graph": {"nodes": nodes, "tensor_values": {image: graph["tensor_values"][image]}},
            "signature": {key: signature[key] for key in ("input_specs", "output_specs")},
        },
        **{key: program[key] for key in ("range_constraints", "schema_version")},
    }
    return Blueprint("program", details=json.dumps({"program": needed, "feature": feature}))


def rebuilt(details: Mapping[str, Any], weights: Mapping[str, Tensor]) -> ExportedNetwork:
    """The network of the details of `ExportedNetwork.blueprint`, with its state dict.

    They are checked like those in a file.

    Raises:
        InputError: as `load_exported`, for what a program must not do or take.
        KeyError, TypeError, ...: almost anything for damaged details.
    """
    program = details["program"]
    _check_version(program)
    tensors = {
        spec[f"{kind}_name"]: weights[spec["arg"]["name"]]
        for entry in program["graph_module"]["signature"]["input_specs"]
        for kind, spec in entry.items()
        if kind != "user_input"
    }
    network = ExportedNetwork(program, tensors, details["feature"])
    network.check()
    return network


def _read(archive: zipfile.ZipFile) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The program, and its weights and constants by name."""
    roots = [n.removesuffix(_MODEL) for n in archive.namelist() if n.endswith(f"/{_MODEL}")]
    if len(roots) != 1:
        raise InputError(
            "holds no program that this PyTorch can read; write it with torch.export.save of "
            f"PyTorch {torch.__version__}, not compiled"
        )
    program = _json(archive, roots[0] + _MODEL)
    _check_version(program)
    tensors: dict[str, Tensor] = {}
    files: dict[str, bytearray] = {}
    rest = _SHARED * sum(member.file_size for member in archive.infolist())
    for kind in ("weights", "constants"):
        folder = f"{roots[0]}data/{kind}/"
        for name, payload in _json(archive, f"{folder}model_{kind}_config.json")["config"].items():
            if payload["use_pickle"]:
                raise InputError(
                    f"holds {name!r} as a pickle, which could execute code; export plain tensors"
                )
            file = folder + payload["path_name"]
            if file not in files:
                files[file] = bytearray(archive.read(file))
            tensors[name] = _tensor(files[file], payload["tensor_meta"], name)
            rest -= tensors[name].nbytes
            if rest < 0:
                raise InputError("holds far fewer bytes than its weights; export it again")
    return program, tensors


def _check_version(program: Mapping[str, Any]) -> None:
    if program["schema_version"]["major"] != file_numbers().version:
        raise InputError(f"has a different version; export it with PyTorch {torch.__version__}")


def _json(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    size = archive.getinfo(name).file_size
    if size > _JSON:
        raise InputError(f"describes its network in {size:,} bytes, more than {_JSON:,}")
    content: dict[str, Any] = json.loads(archive.read(name))
    return content


def _tensor(data: bytearray, meta: Mapping[str, Any], name: str) -> Tensor:
    dtype = number_type(meta["dtype"])
    size, stride = ([n["as_int"] for n in meta[key]] for key in ("sizes", "strides"))
    if math.prod(size) * dtype.itemsize > len(data):
        raise InputError(f"holds {name!r} with fewer bytes than its size {size}; export a copy")
    flat = torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
    return flat.as_strided(size, stride, meta["storage_offset"]["as_int"]).clone()


def _image_shape(program: Mapping[str, Any], name: str) -> tuple[int | None, ...]:
    """The shape of the images, None where it may vary; the batch size must vary without bounds."""
    sizes = program["graph_module"]["graph"]["tensor_values"][name]["sizes"]
    if "as_int" in sizes[0]:
        raise InputError(f"takes only batches of {sizes[0]['as_int']!r} images; {_DYNAMIC}")
    symbol = re.findall(r"\w+", sizes[0]["as_expr"]["expr_str"].removeprefix("Symbol"))[0]
    most = program["range_constraints"].get(symbol, {}).get("max_val")
    if most is not None:
        raise InputError(f"takes batches of at most {most!r} images; {_DYNAMIC}")
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
    # Other names, which PyTorch does not give, could have escape sequences in them.
    found = [name for step in steps for name in value_names(step.outputs)]
    known = [name for name in found if name.isidentifier()]
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
