"""The kinds of base classifiers that --classifier can name, apart from HTTP endpoints."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest
from trainables.models.classifiers import (
    BaseClassifier,
    find_architecture,
    torchvision_models,
    torchvision_names,
)
from trainables.weights.checkpoint import network_for, read_classifier, read_weights

TORCHVISION = "torchvision:"
UNNORMALISED = ((0.0,), (1.0,))

# A network, and the normalisation that belongs to it: mean and std.
Source = tuple[nn.Module, Sequence[float], Sequence[float]]


def load_base_classifier(
    spec: str,
    *,
    image: Tensor,
    weights: Path | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    feature_layer: str | None = None,
    download: bool = False,
) -> BaseClassifier:
    """The classifier that `spec` names, frozen, and tried on the example images `image`.

    `spec` is `torchvision:NAME`, `package.module:factory`, a torch.export program `FILE.pt2`, or
    a checkpoint. `weights` is a file with the state dict of the first two; without one they bring
    their own, which for torchvision's are fetched only with `download`. `image` is
    [n >= 2, C, H, W] in [0, 1]. `mean` and `std`, one value or one for each channel, replace the
    normalisation that the source knows. `feature_layer` names the layer whose output are the
    features; see `BaseClassifier`.

    Nothing but a factory executes code of its own.

    Raises:
        InputError: when there is no such classifier, or it cannot classify such images.
    """
    channels = image.shape[1]
    for flag, values in (("--mean", mean), ("--std", std)):
        if values is not None and len(values) not in (1, channels):
            raise InputError(
                f"{flag}: {len(values)} values, but the images have {channels} channels; "
                f"pass {' or '.join(map(str, sorted({1, channels})))}"
            )
    if spec.endswith(".pt2"):
        from trainables.weights.exported import FEATURES, load_exported

        _refuse_weights(spec, weights)
        source: Source = (load_exported(Path(spec), feature_layer), *UNNORMALISED)
        feature_layer = FEATURES
    else:
        source = _source(spec, weights, download)
    network, own_mean, own_std = source
    classifier = BaseClassifier(
        network,
        own_mean if mean is None else mean,
        own_std if std is None else std,
        feature_layer,
    )
    classifier.probe(image)
    return classifier


def _source(spec: str, weights: Path | None, download: bool) -> Source:
    if spec.startswith(TORCHVISION):
        return _from_torchvision(spec.removeprefix(TORCHVISION), weights, download)
    if is_factory(spec):
        return _from_factory(spec, weights), *UNNORMALISED
    _refuse_weights(spec, weights)
    return read_classifier(Path(spec))


def is_factory(spec: str) -> bool:
    """Whether `spec` is a `package.module:factory`."""
    return not spec.startswith(TORCHVISION) and bool(re.fullmatch(r"[\w.]+:[\w.]+", spec))


def _refuse_weights(spec: str, weights: Path | None) -> None:
    if weights is not None:
        raise InputError(f"--weights: {spec} holds its own weights; leave --weights out")


def _from_torchvision(name: str, path: Path | None, download: bool) -> Source:
    names = torchvision_names()
    architecture = find_architecture(name) if name in names else None
    if architecture is None:
        raise InputError(
            f"--classifier: torchvision has no classifier {name!r}{nearest(name, names)}"
        )
    weights = _default_weights(name, download) if path is None else read_weights(path)
    try:
        network = network_for(architecture.build, weights)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"--weights: the weights in {path} do not fit {name}") from error
    if path is None and hasattr(network, "transform_input"):
        # Two of these networks were trained with another normalisation, and convert to it.
        network.transform_input = True  # type: ignore[assignment]
    return network, architecture.mean, architecture.std


def _default_weights(name: str, download: bool) -> dict[str, Any]:
    default = torchvision_models().get_model_weights(name).DEFAULT
    cached = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(default.url).path).name)
    if not (download or cached.is_file()):
        raise InputError(
            f"--classifier: torchvision's weights of {name} are not on this machine; pass "
            "--download to fetch them, or a file of them as --weights FILE"
        )
    try:
        weights = default.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # a failing download raises almost anything
        raise InputError(
            f"--classifier: torchvision cannot fetch its weights of {name} "
            f"({describe_error(error)}); pass a file of them as --weights FILE"
        ) from error
    return dict(weights)


def _from_factory(spec: str, path: Path | None) -> nn.Module:
    module_name, _, factory_name = spec.partition(":")
    # Behind what is installed. It stays, because networks may import more later.
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))
    try:
        factory: Any = importlib.import_module(module_name)
        for attribute in factory_name.split("."):
            factory = getattr(factory, attribute)
        network = factory()
    except (Exception, SystemExit) as error:  # it is the user's code
        raise InputError(f"--classifier: {spec} fails with {describe_error(error)}") from error
    if not isinstance(network, nn.Module):
        raise InputError(
            f"--classifier: {spec} returns a {type(network).__name__}, not a torch.nn.Module"
        )
    if path is not None:
        weights = read_weights(path)
        try:
            network.load_state_dict(weights)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"--weights: the weights in {path} do not fit {spec}") from error
    return network.cpu()
