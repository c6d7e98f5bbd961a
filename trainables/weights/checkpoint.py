"""Checkpoints of classifiers: read without executing code from them, and written atomically."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file as load_safetensors
from torch import Tensor, nn

from trainables.errors import InputError, describe_error, nearest
from trainables.models.architectures import (
    ARCHITECTURES,
    CIFAR_BLOCKS,
    IMAGENET,
    Architecture,
    Build,
    cifar_build,
    find_architecture,
    torchvision_names,
)
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.weights.pickled import NO_WEIGHTS, load_pickled
from trainables.weights.state_dicts import Misfit, Weights, find_weights, load_weights, unwrapped

# The normalisation of Cohen et al. 2019 for CIFAR-10.
COHEN = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
# What PyTorch's batch norm adds to a variance.
PYTORCH_EPS = 1e-5


class Source(NamedTuple):
    """A network, the normalisation that belongs to it, and how to build it again, if known."""

    network: nn.Module
    mean: Sequence[float]
    std: Sequence[float]
    blueprint: Blueprint | None


def load_classifier(path: Path) -> BaseClassifier:
    """The classifier in a checkpoint; see `read_classifier`.

    Raises:
        InputError: when the file is missing or damaged, or has a different layout or an unknown
            architecture.
    """
    network, mean, std, blueprint = read_classifier(path)
    return BaseClassifier(network, mean, std, blueprint=blueprint)


def read_classifier(path: Path) -> Source:
    """What is in a checkpoint `{"arch": NAME, "state_dict": WEIGHTS}`.

    The arch is one of ours or of torchvision's; the checkpoint may also hold `mean` and `std`. The
    weights may have other usual keys, and names with the prefixes of wrappers: see `state_dicts`.
    They are read with `weights_only=True`, so the file cannot execute code. Checkpoints of Cohen
    et al. 2019 and Salman et al. 2020 load as they are: their ResNets were trained behind a
    normalising layer, whose values are known here because the files do not hold them.

    Raises:
        InputError: when the file is missing or damaged, or has a different layout or an unknown
            architecture.
    """
    checkpoint = _read_checkpoint(path, "classifier")
    arch = checkpoint.get("arch") if isinstance(checkpoint, dict) else None
    weights = find_weights(checkpoint, str(path))
    if weights is not None and arch is None:
        raise InputError(
            f"{path} holds weights without their network; pass it as `weights`, and as "
            "`classifier` the network: package.module:factory or torchvision:NAME",
            field="classifier",
        )
    if not isinstance(checkpoint, dict) or not isinstance(arch, str):
        raise InputError(f'{path} is not a checkpoint {{"arch", "state_dict"}}', field="classifier")
    found = find_architecture(arch)
    if found is None:
        raise InputError(
            f"{path} holds the architecture {arch!r}, which is unknown"
            f"{nearest(arch, [*ARCHITECTURES, *torchvision_names()])}",
            field="classifier",
        )
    if weights is None:
        raise InputError(f"{path} holds no weights of its {arch}", field="classifier")
    try:
        network, found = network_of(arch, found, weights.tensors)
    except Misfit as error:
        problem = f"the weights in {weights.where} do not fit {arch}: {error}"
        raise InputError(problem, field="classifier") from error
    mean, std = (_numbers(path, checkpoint, name, found) for name in ("mean", "std"))
    return Source(network, mean, std, Blueprint("architecture", arch))


def network_of(
    arch: str, found: Architecture, weights: dict[str, Tensor]
) -> tuple[nn.Module, Architecture]:
    """The network called `arch` with `weights`, and the architecture in the variant they are of.

    Raises:
        Misfit: when they do not fit.
    """
    if arch in CIFAR_BLOCKS:
        found, weights = _cifar_variant(arch, weights)
    return network_for(found.build, weights), found


def read_weights(path: Path) -> Weights:
    """The state dict in `path`: bare, under one of the usual keys, or in safetensors format.

    Raises:
        InputError: when the file is missing, damaged, or holds anything else.
    """
    weights = find_weights(_read_checkpoint(path, "weights"), str(path))
    if weights is None:
        raise InputError(f"{path} holds no state dict; save network.state_dict()", field="weights")
    return weights


def network_for(build: Build, weights: Mapping[str, Tensor]) -> nn.Module:
    """The network with `weights`, whose shapes determine its channels and classes.

    Raises:
        Misfit: when they do not fit.
    """
    sizes = {0: 2, 1: 1}
    skeleton = _skeleton(build, sizes)
    named, _ = unwrapped(weights, skeleton)
    for name, tensor in skeleton.items():
        found = named.get(name, tensor)
        # Only the first convolution depends on the channels, and only the head on the classes.
        for axis, (size, expected) in enumerate(zip(found.shape, tensor.shape, strict=False)):
            if size != expected and axis in sizes:
                sizes[axis] = size
    try:
        network = _build(build, sizes, weights)
    except (RuntimeError, ValueError) as error:
        raise Misfit(describe_error(error)) from error
    load_weights(network, weights)
    return network


def save_classifier(
    path: Path,
    arch: str,
    network: nn.Module,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> None:
    """Write `network` as a checkpoint that `load_classifier` reads, atomically.

    `mean` and `std` are those of its normalisation; by default those of the architecture.
    """
    checkpoint = {
        "arch": arch,
        "state_dict": network.state_dict(),
        "mean": list(ARCHITECTURES[arch].mean if mean is None else mean),
        "std": list(ARCHITECTURES[arch].std if std is None else std),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        try:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            Path(file.name).unlink()
            raise


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in order: hexadecimal, 64 digits.

    What batch norms add to a variance also counts, where it is not PyTorch's default.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        # As bytes, because NumPy has no bfloat16.
        flat = tensor.detach().cpu().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    for name, layer in module.named_modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.eps != PYTORCH_EPS:
            digest.update(f"{name} {layer.eps}".encode())
    return digest.hexdigest()


def _build(build: Build, sizes: Mapping[int, int], weights: Mapping[str, Tensor]) -> nn.Module:
    """The network of these `sizes`, if it is about as large as its `weights`.

    A single bias is enough to claim a billion classes, for which the memory would be filled.
    """

    def count(classes: int, channels: int) -> int:
        return sum(t.numel() for t in _skeleton(build, {0: classes, 1: channels}).values())

    smallest = count(2, 1)
    expected = smallest + (sizes[0] - 2) * (count(3, 1) - smallest)
    expected += (sizes[1] - 1) * (count(2, 2) - smallest)
    if expected > 2 * sum(tensor.numel() for tensor in weights.values()) + 2**20:
        raise ValueError(f"{sizes[0]} classes of {sizes[1]} channels take {expected} weights")
    return build(sizes[1], sizes[0])


def _skeleton(build: Build, sizes: Mapping[int, int]) -> dict[str, Tensor]:
    try:
        with torch.device("meta"):
            return build(sizes[1], sizes[0]).state_dict()
    except NotImplementedError:  # some networks use tensors to compute their widths
        return build(sizes[1], sizes[0]).state_dict()


def _cifar_variant(arch: str, weights: dict[str, Tensor]) -> tuple[Architecture, dict[str, Tensor]]:
    """The CIFAR ResNet that the published `weights` belong to, and its weights by our names."""
    # Cohen et al. call the head `fc`; those who call it `linear` normalise differently.
    mean, std = COHEN if any(name.endswith("fc.weight") for name in weights) else IMAGENET
    renamed = {
        name.replace(".downsample.", ".shortcut.").replace("fc.", "linear."): tensor
        for name, tensor in weights.items()
    }
    projection = any(".shortcut." in name for name in renamed)
    return Architecture(cifar_build(arch, projection), mean, std), renamed


def _numbers(
    path: Path, checkpoint: Mapping[str, object], name: str, found: Architecture
) -> Sequence[float]:
    value = checkpoint.get(name)
    if value is None:
        return found.mean if name == "mean" else found.std
    try:
        numbers: list[float] = torch.as_tensor(value, dtype=torch.float64).flatten().tolist()
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"{name!r} in {path} is not a list of numbers"
        raise InputError(problem, field="classifier") from error
    return numbers


def _read_checkpoint(path: Path, field: str) -> object:
    if not path.is_file():
        raise InputError(f"{path} does not exist", field=field)
    try:
        if path.suffix == ".safetensors":
            return load_safetensors(path)
        return load_pickled(path, field)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} is not a PyTorch checkpoint, or holds more than weights, which could execute "
            f"code; save only the weights{_found(error) or _recognised(path)}",
            field=field,
        ) from error
    except Exception as error:  # damaged files make torch.load raise almost anything
        if "TorchScript" in str(error):
            raise InputError(_torch_script(path, field), field=field) from error
        problem = f"{path} is damaged, or is not a PyTorch checkpoint{_recognised(path)}"
        raise InputError(problem, field=field) from error


def _found(error: pickle.UnpicklingError) -> str:
    """What a pickle holds besides weights, if that is known."""
    return f" ({error})" if str(error).endswith(NO_WEIGHTS) else ""


def _recognised(path: Path) -> str:
    """What a file that is no checkpoint is instead, as far as its first bytes say so."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        return " (it is empty)"
    if start.startswith(b"version https://git-lfs"):
        return " (it is a pointer of Git LFS; fetch the file itself with git lfs pull)"
    if start.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return " (it is a web page; fetch the file itself)"
    if start[8:10] == b'{"':
        return " (it looks like safetensors; name it .safetensors)"
    return ""


def _torch_script(path: Path, field: str) -> str:
    wanted = (
        "save the state_dict() of the network that it was made from"
        if field == "weights"
        else "export the network that it was made from with torch.export, to FILE.pt2"
    )
    return f"{path} is a TorchScript program, which could execute code; {wanted}"
