"""Sources of base classifiers, apart from HTTP endpoints."""

from __future__ import annotations

import importlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest
from trainables.models.adapting import adapt
from trainables.models.architectures import find_architecture, torchvision_models, torchvision_names
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.weights.checkpoint import Source, network_for, read_classifier, read_weights
from trainables.weights.denoiser_file import read_bytes
from trainables.weights.hugging_face import HUGGING_FACE, read_hugging_face
from trainables.weights.onnx_file import ONNX, read_onnx
from trainables.weights.packed import CLASSIFIER, load_packed
from trainables.weights.state_dicts import Misfit, Weights, load_weights
from trainables.weights.timm_models import TIMM, read_timm

TORCHVISION = "torchvision:"
_OLD_NAMES = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
UNNORMALISED = ((0.0,), (1.0,))


@dataclass(frozen=True)
class ClassifierSpec:
    """A classifier as a user names it; errors name these fields.

    `classifier` is `torchvision:NAME`, `timm:NAME`, `package.module:factory`, `hf:NAME` or
    `hf:FOLDER`, a torch.export program `FILE.pt2`, `FILE.onnx`, a checkpoint, or the folder of an
    exported smoothed classifier. `weights` is a file with a state dict for the first three, instead
    of their own.
    `mean` and `std`, one value or one for each channel, replace the normalisation of the source.
    `feature_layer` names the layer whose output is the features; see `BaseClassifier`.
    """

    classifier: str
    weights: Path | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    feature_layer: str | None = None


def load_base_classifier(
    spec: ClassifierSpec, images: Tensor, *, download: bool = False
) -> BaseClassifier:
    """The classifier that `spec` names, frozen, and tried on example images [n >= 2, C, H, W].

    Weights of torchvision's, timm's or the Hugging Face Hub's own are fetched only with `download`.
    Only a factory can execute code.

        spec = ClassifierSpec("torchvision:resnet18", feature_layer="avgpool")
        classifier = load_base_classifier(spec, images, download=True)

    Raises:
        InputError: when there is no such classifier, or it cannot classify such images.
    """
    _check_channels(spec, images.shape[1])
    feature_layer = spec.feature_layer
    if spec.classifier.endswith(".pt2"):
        from trainables.weights.exported import FEATURES, load_exported

        _refuse_weights(spec)
        program = load_exported(Path(spec.classifier), feature_layer)
        source = Source(program, *UNNORMALISED, program.blueprint)
        feature_layer = FEATURES
    elif Path(spec.classifier, CLASSIFIER).is_file():
        return _from_export(spec, images)
    else:
        source = _source(spec, images, download)
    network, mean, std, blueprint = source
    classifier = BaseClassifier(
        network,
        mean if spec.mean is None else spec.mean,
        std if spec.std is None else spec.std,
        feature_layer,
        blueprint,
    )
    adapt(classifier, images)
    classifier.fix_head(images)
    return classifier


def _from_export(spec: ClassifierSpec, images: Tensor) -> BaseClassifier:
    for field in ("weights", "mean", "std", "feature_layer"):
        if getattr(spec, field) is not None:
            raise InputError(
                f"the classifier in {spec.classifier} has its own; leave it out", field
            )
    try:
        return load_packed(read_bytes(Path(spec.classifier, CLASSIFIER)), images)
    except OSError as error:
        problem = f"{spec.classifier}/{CLASSIFIER} cannot be read ({error.strerror})"
        raise InputError(problem, field="classifier") from error


def _check_channels(spec: ClassifierSpec, channels: int) -> None:
    for field, values in (("mean", spec.mean), ("std", spec.std)):
        if values is not None and len(values) not in (1, channels):
            raise InputError(
                f"{len(values)} values, but the images have {channels} channels; "
                f"pass {' or '.join(map(str, sorted({1, channels})))}"
                + (", or `channels` 3 for a network that takes RGB" if channels == 1 else ""),
                field=field,
            )


def _source(spec: ClassifierSpec, images: Tensor, download: bool) -> Source:
    named = spec.classifier
    if named.startswith(TORCHVISION):
        return _from_torchvision(named.removeprefix(TORCHVISION), spec.weights, download)
    if is_factory(named):
        network = _from_factory(named, spec.weights)
        return Source(network, *UNNORMALISED, Blueprint("factory", named))
    if named.startswith(TIMM):
        return read_timm(named.removeprefix(TIMM), spec.weights, download)
    _refuse_weights(spec)
    if named.startswith(HUGGING_FACE):
        normalised = spec.mean is not None and spec.std is not None
        name = named.removeprefix(HUGGING_FACE)
        return read_hugging_face(name, download, normalised=normalised)
    if named.endswith(ONNX):
        return read_onnx(Path(named), images)
    return read_classifier(Path(named))


def is_factory(spec: str) -> bool:
    """Whether `spec` is a `package.module:factory`."""
    return not spec.startswith((TORCHVISION, TIMM, HUGGING_FACE)) and bool(
        re.fullmatch(r"[\w.]+:[\w.]+", spec)
    )


def _refuse_weights(spec: ClassifierSpec) -> None:
    if spec.weights is not None:
        raise InputError(f"{spec.classifier} holds its own; leave these out", field="weights")


def _from_torchvision(name: str, path: Path | None, download: bool) -> Source:
    names = torchvision_names()
    architecture = find_architecture(name) if name in names else None
    if architecture is None:
        raise InputError(
            f"torchvision has no classifier {name!r}{nearest(name, names)}", field="classifier"
        )
    weights = _default_weights(name, download) if path is None else read_weights(path)
    # Published weights of DenseNets have names of an older torchvision, which it converts as well.
    tensors = {_OLD_NAMES.sub(r"\1\2", key): value for key, value in weights.tensors.items()}
    try:
        network = network_for(architecture.build, tensors)
    except Misfit as error:
        problem = f"those in {weights.where} do not fit {name}: {error}"
        raise InputError(problem, field="weights") from error
    details = {}
    if path is None and hasattr(network, "transform_input"):
        # Two of these networks were trained with a different normalisation, and convert to it.
        network.transform_input = True  # type: ignore[assignment]
        details = {"transform_input": True}
    blueprint = Blueprint("architecture", name, json.dumps(details))
    return Source(network, architecture.mean, architecture.std, blueprint)


def _default_weights(name: str, download: bool) -> Weights:
    default = torchvision_models().get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(default.url).path).name)
    if not (download or cached.is_file()):
        raise InputError(
            f"torchvision's weights of {name} are not on this machine; pass `download` to fetch "
            "them, or a file of them as `weights`",
            field="classifier",
        )
    try:
        weights = default.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # a failing download raises almost anything
        raise InputError(
            f"torchvision cannot fetch its weights of {name} ({describe_error(error)}); pass a "
            "file of them as `weights`",
            field="classifier",
        ) from error
    return Weights(dict(weights), str(cached))


def _from_factory(spec: str, path: Path | None) -> nn.Module:
    module_name, _, factory_name = spec.partition(":")
    # After installed packages. It stays on the path, because networks may import more later.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        factory: Any = importlib.import_module(module_name)
        for attribute in factory_name.split("."):
            factory = getattr(factory, attribute)
        network = factory()
    except (Exception, SystemExit) as error:  # it is the user's code
        raise InputError(
            f"{spec} fails with {describe_error(error)}", field="classifier"
        ) from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{spec} returns a {type(network).__name__}, not a torch.nn.Module", field="classifier"
        )
    # What torch.compile returns, whose layers are those of the network.
    network = getattr(network, "_orig_mod", network)
    assert isinstance(network, nn.Module)
    if isinstance(network, torch.jit.ScriptModule):
        raise InputError(
            f"{spec} returns a TorchScript module; return the network that it was made from",
            field="classifier",
        )
    _check_tensors(network, spec)
    if path is not None:
        weights = read_weights(path)
        try:
            load_weights(network, weights.tensors)
        except Misfit as error:
            problem = f"those in {weights.where} do not fit {spec}: {error}"
            raise InputError(problem, field="weights") from error
    return network.cpu()


def _check_tensors(network: nn.Module, spec: str) -> None:
    """Refuse weights that are not plain tensors, which could be neither hashed nor copied."""
    for name, value in (*network.named_parameters(), *network.state_dict().items()):
        if isinstance(value, nn.UninitializedParameter | nn.UninitializedBuffer):
            problem = "has no shape yet; classify an image before you return the network"
        elif not isinstance(value, Tensor) or value.is_quantized:
            problem = "is quantised; return the network as it was before"
        elif value.is_meta:
            problem = "has no values (device meta); load the weights before you return the network"
        else:
            continue
        raise InputError(f"{spec}: its {name} {problem}", field="classifier")
