"""A small network in ONNX format, written without an exporter: needs the extra onnx."""

from pathlib import Path
from typing import Any

import numpy as np

# Names as exporters make them, which no module could have.
NAMES = ("input.1", "/layer1/layer1.0/conv/Conv_output_0", "/hidden", "/flat", "logits")


def write_graph(path: Path, size: int = 8, classes: int = 3) -> Path:
    """Convolution, batch norm, ReLU and a linear layer on grey images of `size` pixels squared."""
    import onnx
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(0)
    images, convolved, hidden, flat, logits = NAMES
    weights: dict[str, Any] = {
        "conv.weight": rng.normal(size=(2, 1, 3, 3)),
        "bn.weight": rng.uniform(0.5, 1, 2),
        "bn.bias": rng.normal(size=2),
        "bn.mean": rng.normal(size=2),
        "bn.var": rng.uniform(0.5, 1, 2),
        "fc.weight": rng.normal(size=(classes, 2 * (size - 2) ** 2)) / size,
        "fc.bias": rng.normal(size=classes),
    }
    norm = ["bn.weight", "bn.bias", "bn.mean", "bn.var"]
    nodes = [
        helper.make_node("Conv", [images, "conv.weight"], [convolved]),
        helper.make_node("BatchNormalization", [convolved, *norm], ["/bn"], training_mode=0),
        helper.make_node("Relu", ["/bn"], [hidden]),
        helper.make_node("Flatten", [hidden], [flat]),
        helper.make_node("Gemm", [flat, "fc.weight", "fc.bias"], [logits], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(images, 1, ["b", 1, size, size])],
        [helper.make_tensor_value_info(logits, 1, ["b", classes])],
        [numpy_helper.from_array(v.astype(np.float32), name) for name, v in weights.items()],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path


def write_linear(path: Path, shape: tuple[int, int, int], weight: Any, bias: Any) -> Path:
    """A linear layer on images of `shape` [C, H, W]."""
    import onnx
    from onnx import helper, numpy_helper

    nodes = [
        helper.make_node("Flatten", ["images"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("images", 1, ["b", *shape])],
        [helper.make_tensor_value_info("logits", 1, ["b", len(bias)])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(bias, "bias")],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)
    return path
