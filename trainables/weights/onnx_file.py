"""Classifiers in ONNX files, converted to modules of PyTorch, so that they have gradients.

The conversion is held against ONNX Runtime. The normalisation is that of the graph, if it has any.
"""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error
from trainables.models.blueprint import Blueprint
from trainables.weights.checkpoint import Source
from trainables.weights.extras import optional

ONNX = ".onnx"
_AGAIN = "export the network with torch.export, to FILE.pt2, or with torch.onnx.export(dynamo=True)"
# Operators that run graphs within the graph, perhaps for ever; networks of images have none.
_SUBGRAPHS = {"If", "Loop", "Scan", "SequenceMap"}
# Relative difference of logits that rounding explains.
_ROUNDING = 1e-3


def read_onnx(path: Path, images: Tensor) -> Source:
    """The network in `path`, which maps images like `images` [n >= 2, C, H, W] to logits.

    Raises:
        InputError: when the file is missing or damaged, takes anything but images or a fixed number
            of them, or cannot be converted.
    """
    if not path.is_file():
        raise InputError(f"{path} does not exist", field="classifier")
    network = onnx_network(str(path), str(path), images)
    return Source(network, (0.0,), (1.0,), Blueprint("onnx", str(path)))


def onnx_bytes(path: Path) -> bytes:
    """The graph in `path` with all of its weights, but without what says how it was made.

    Exporters write stack traces there, with names of the user's files.
    """
    model = optional("onnx", "onnx", f"FILE{ONNX}").load(path)
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    data: bytes = model.SerializeToString()
    return data


def onnx_network(source: str | bytes, where: str, images: Tensor) -> nn.Module:
    """The network in a file, or in what `onnx_bytes` returned, compared with ONNX Runtime.

    Errors say that it is `where`; otherwise as `read_onnx`.
    """
    onnx = optional("onnx", "onnx", f"FILE{ONNX}")
    try:
        read = onnx.load_model_from_string if isinstance(source, bytes) else onnx.load
        model = read(source)
        onnx.checker.check_model(model)
    except Exception as error:  # damaged files raise almost anything
        problem = f"{where} is damaged, or is not an ONNX file: {describe_error(error)}"
        raise InputError(problem, field="classifier") from error
    try:
        _check_graph(model.graph)
        expected = _run(source, images)
        network = _converted(model)
        with torch.no_grad():
            difference = (network(images) - expected).abs().max()
        if not difference <= _ROUNDING * expected.abs().max().clamp_min(1):
            raise InputError(f"gives logits in PyTorch that differ by {difference:.2g}; {_AGAIN}")
    except InputError as error:
        raise error if error.field else InputError(f"{where} {error}", "classifier") from error
    except Exception as error:  # whatever an odd graph leads to
        raise InputError(
            f"{where} cannot be converted to PyTorch ({describe_error(error)}); {_AGAIN}",
            field="classifier",
        ) from error
    return network


def _check_graph(graph: Any) -> None:
    weights = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in weights]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(
            f"takes {len(inputs)} tensors and returns {len(graph.output)}; export a network that "
            "takes images and returns logits"
        )
    shape = inputs[0].type.tensor_type.shape.dim
    if shape and shape[0].HasField("dim_value"):
        raise InputError(
            f"takes only batches of {shape[0].dim_value} images; export it with a batch size that "
            "varies"
        )
    nested = sorted({node.op_type for node in graph.node} & _SUBGRAPHS)
    if nested:
        raise InputError(f"uses the operator {nested[0]}, which is not supported; {_AGAIN}")


def _run(source: str | bytes, images: Tensor) -> Tensor:
    """The logits as ONNX Runtime computes them."""
    runtime = optional("onnxruntime", "onnx", f"FILE{ONNX}")
    runtime.set_default_logger_severity(4)
    session = runtime.InferenceSession(source, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()[0]
    try:
        (logits,) = session.run(None, {inputs.name: images.numpy()})
    except Exception as error:
        raise InputError(
            f"does not accept images of shape {tuple(images.shape[1:])} (channels, height, width), "
            f"which is what the data set holds: it takes {inputs.shape}"
        ) from error
    return torch.from_numpy(logits)


def _converted(model: Any) -> nn.Module:
    onnx2pytorch = optional("onnx2pytorch", "onnx", f"FILE{ONNX}")
    _rename(model.graph)
    for node in model.graph.node:
        # The converter does not know the attribute that says that it is not in training mode.
        if node.op_type == "BatchNormalization":
            kept = [a for a in node.attribute if a.name != "training_mode" or a.i]
            del node.attribute[:]
            node.attribute.extend(kept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: nn.Module = onnx2pytorch.ConvertModel(model)
    # The modules have their own copies of the weights.
    del model.graph.initializer[:]
    return network.eval()


def _rename(graph: Any) -> None:
    """Give all values names that can be those of modules, as the converter makes them."""
    plain = {"": ""}

    def renamed(name: str) -> str:
        if name not in plain:
            found = re.sub(r"\W+", "_", name).strip("_")
            plain[name] = f"{found}_{len(plain)}" if found in plain.values() else found
        return plain[name]

    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        value.name = renamed(value.name)
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [renamed(name) for name in names]
