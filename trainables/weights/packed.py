"""A classifier as a safetensors file that says how its network is built.

Nothing in it is unpickled or executed. What cannot be written like this, such as the network of a
user's own factory, is not.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, Field
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from trainables.errors import InputError, describe_error
from trainables.models.adapting import adapt
from trainables.models.architectures import find_architecture
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import network_of
from trainables.weights.denoiser_file import metadata_of

CLASSIFIER = "classifier.safetensors"
_NETWORK = "network."
# The tensor that holds an ONNX graph, whose weights are not those of the converted network.
_GRAPH = "onnx"

Tensors = dict[str, Tensor]


class _Header(BaseModel, frozen=True, extra="forbid"):
    """What the file says about its network, in the metadata `classifier`."""

    kind: Literal["architecture", "timm", "transformers", "program", "onnx"]
    name: str = Field(max_length=200)
    details: dict[str, Any]
    feature_layer: str | None = Field(max_length=500)


def classifier_bytes(classifier: BaseClassifier) -> bytes | None:
    """`classifier` in safetensors format; None if nobody could build its network from that.

    Raises:
        OSError: when it came from an ONNX file that cannot be read any more.
    """
    blueprint = classifier.blueprint
    if blueprint is None or blueprint.kind not in _BUILDERS:
        return None
    name, tensors = blueprint.name, _separate(classifier.state_dict())
    if blueprint.kind == "onnx":
        from trainables.weights.onnx_file import onnx_bytes

        graph = torch.frombuffer(bytearray(onnx_bytes(Path(name))), dtype=torch.uint8)
        tensors = {"mean": tensors["mean"], "std": tensors["std"], _GRAPH: graph}
        name = ""
    header = {"kind": blueprint.kind, "name": name, "details": json.loads(blueprint.details)}
    text = json.dumps({**header, "feature_layer": classifier.feature_layer})
    return save_safetensors(tensors, {"classifier": text})


def load_packed(data: bytes, images: Tensor) -> BaseClassifier:
    """The classifier in `data`, as `classifier_bytes` wrote it, tried on `images` [n, C, H, W].

    Raises:
        InputError: when `data` is damaged, its library is not installed, or it does not classify
            such images.
    """
    try:
        header = _Header.model_validate_json(metadata_of(data)["classifier"])
        tensors = load_safetensors(data)
        mean, std = (tensors.pop(name).flatten().tolist() for name in ("mean", "std"))
        weights = {name.removeprefix(_NETWORK): tensor for name, tensor in tensors.items()}
        blueprint = Blueprint(header.kind, header.name, json.dumps(header.details))
        network = _BUILDERS[header.kind](header, weights, images)
        classifier = BaseClassifier(network, mean, std, header.feature_layer, blueprint)
    except InputError:
        raise
    except Exception as error:  # damaged files, and networks that a library does not know
        raise InputError(
            f"{CLASSIFIER} is damaged, or its network cannot be built here: {describe_error(error)}"
        ) from error
    adapt(classifier, images)
    classifier.fix_head(images)
    return classifier


def _separate(tensors: Mapping[str, Tensor]) -> Tensors:
    """Copies of those that share their memory, which the format does not know."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        place = plain.untyped_storage().data_ptr()
        separate[name] = plain.clone() if place in seen else plain
        seen.add(place)
    return separate


def _architecture(header: _Header, weights: Tensors, images: Tensor) -> nn.Module:
    found = find_architecture(header.name)
    if found is None:
        raise InputError(f"{CLASSIFIER} names the architecture {header.name!r}, which is unknown")
    network, _ = network_of(header.name, found, weights)
    if header.details.get("transform_input"):
        network.transform_input = True  # type: ignore[assignment]
    return network


def _timm(header: _Header, weights: Tensors, images: Tensor) -> nn.Module:
    from trainables.weights.timm_models import timm_network

    return timm_network(header.name, weights)


def _transformers(header: _Header, weights: Tensors, images: Tensor) -> nn.Module:
    from trainables.weights.hugging_face import transformers_network

    return transformers_network(header.details, weights)


def _program(header: _Header, weights: Tensors, images: Tensor) -> nn.Module:
    from trainables.weights.exported import rebuilt

    return rebuilt(header.details, weights)


def _onnx(header: _Header, weights: Tensors, images: Tensor) -> nn.Module:
    from trainables.weights.onnx_file import onnx_network

    return onnx_network(weights[_GRAPH].numpy().tobytes(), CLASSIFIER, images)


_BUILDERS: dict[str, Callable[[_Header, Tensors, Tensor], nn.Module]] = {
    "architecture": _architecture,
    "timm": _timm,
    "transformers": _transformers,
    "program": _program,
    "onnx": _onnx,
}
