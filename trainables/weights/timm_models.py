"""Classifiers of timm (PyTorch Image Models), with the normalisation that timm says is theirs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest
from trainables.models.blueprint import Blueprint
from trainables.weights.checkpoint import Source, network_for, read_weights
from trainables.weights.extras import optional
from trainables.weights.state_dicts import Misfit

TIMM = "timm:"
_FILE = "model.safetensors"


def read_timm(name: str, path: Path | None, download: bool) -> Source:
    """The network that timm calls `name`, which may end in the tag of its weights, and its values.

    The weights are those in `path`, whose shapes determine channels and classes, or timm's own,
    from the cache or, with `download`, from the Hugging Face Hub; these are safetensors.

    Raises:
        InputError: when there is no such network, or it has no such weights.
    """
    timm = _timm(name)
    network = _pretrained(timm, name, download) if path is None else _loaded(name, path)
    values = network.pretrained_cfg
    return Source(network, tuple(values["mean"]), tuple(values["std"]), Blueprint("timm", name))


def timm_network(name: str, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network that timm calls `name`, with `weights`, which determine channels and classes.

    Raises:
        InputError: when there is no such network.
        Misfit: when the weights do not fit.
    """
    timm = _timm(name)

    def build(channels: int, classes: int) -> Any:
        return timm.create_model(name, num_classes=classes, in_chans=channels)

    return network_for(build, weights)


def _timm(name: str) -> Any:
    """The library, which has a network of that name."""
    timm = optional("timm", "timm", f"{TIMM}NAME")
    if not timm.is_model(name):
        known = timm.list_models()
        raise InputError(f"timm has no classifier {name!r}{nearest(name, known)}", "classifier")
    return timm


def _loaded(name: str, path: Path) -> Any:
    weights = read_weights(path)
    try:
        return timm_network(name, weights.tensors)
    except Misfit as error:
        raise InputError(
            f"those in {weights.where} do not fit {name}: {error}", "weights"
        ) from error


def _pretrained(timm: Any, name: str, download: bool) -> Any:
    """The network with timm's own weights."""
    values = timm.get_pretrained_cfg(name)
    if values is None or not values.hf_hub_id:
        raise InputError(
            f"timm has no weights of {name}; pass a file of them as `weights`", "classifier"
        )
    hub = optional("huggingface_hub", "timm", f"{TIMM}NAME")
    try:
        file = hub.hf_hub_download(values.hf_hub_id, _FILE, local_files_only=not download)
    except Exception as error:  # a failing download raises almost anything
        raise InputError(_absent(name, values.hf_hub_id, download, error), "classifier") from error
    try:
        # As timm loads them: it converts those of other projects.
        found = {"state_dict": read_weights(Path(file)).tensors}
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay=found)
    except (RuntimeError, KeyError) as error:
        problem = f"timm cannot load its weights of {name} ({describe_error(error)})"
        raise InputError(problem, "classifier") from error


def _absent(name: str, hub_id: str, download: bool, error: Exception) -> str:
    if download:
        return (
            f"timm's weights of {name} cannot be fetched from {hub_id} ({describe_error(error)}); "
            "pass a file of them as `weights`"
        )
    return (
        f"timm's weights of {name} are not on this machine; pass `download` to fetch them, or a "
        "file of them as `weights`"
    )
