"""Reading and writing weights: foreign checkpoints without executing code, ours as safetensors."""

from __future__ import annotations

import hashlib
import os
import pickle
import tempfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.models.classifiers import ARCHITECTURES, BaseClassifier
from trainables.models.denoisers import DnCNN


def load_classifier(path: Path) -> BaseClassifier:
    """The classifier in a checkpoint `{"arch": NAME, "state_dict": WEIGHTS}`.

    Weights are read with `weights_only=True`, so the file cannot execute code; a `module.` prefix
    left by DataParallel is dropped.

    Raises:
        InputError: when the file is missing, damaged, of another layout or of an unknown arch.
    """
    arch, weights = _arch_and_weights(path)
    if arch not in ARCHITECTURES:
        raise InputError(
            f"--classifier: {path} holds the architecture {arch!r}, which is unknown; "
            f"known are {', '.join(ARCHITECTURES)}"
        )
    matrices = [v for v in weights.values() if isinstance(v, Tensor) and v.ndim == 2]
    network = ARCHITECTURES[arch].build(len(matrices[-1]) if matrices else 10)
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise InputError(f"--classifier: the weights in {path} do not fit {arch}") from error
    return BaseClassifier(network, ARCHITECTURES[arch].mean, ARCHITECTURES[arch].std)


def save_classifier(path: Path, arch: str, network: nn.Module) -> None:
    """Write `network` as a checkpoint that `load_classifier` reads, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
        torch.save({"arch": arch, "state_dict": network.state_dict()}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(file.name, path)


def denoiser_bytes(denoiser: nn.Module) -> bytes:
    """The denoiser's weights in safetensors format."""
    weights = {k: v.detach().cpu().contiguous() for k, v in denoiser.state_dict().items()}
    return save_safetensors(weights)


def load_denoiser(data: bytes, *, channels: int, depth: int, width: int) -> DnCNN:
    """The DnCNN of that size with the weights in `data` (safetensors), in evaluation mode.

    Raises:
        InputError: when `data` is damaged or belongs to a denoiser of another size.
    """
    denoiser = DnCNN(channels, depth, width)
    try:
        denoiser.load_state_dict(load_safetensors(data))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"the denoiser's weights are damaged, or not those of a DnCNN of {depth} x {width} "
            f"for {channels} channels"
        ) from error
    return denoiser.eval()


def weights_hash(module: nn.Module) -> str:
    """SHA-256 over all parameters and buffers, in order: hexadecimal, 64 digits."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _arch_and_weights(path: Path) -> tuple[str, dict[str, Tensor]]:
    checkpoint = _read_checkpoint(path)
    if isinstance(checkpoint, dict):
        arch, weights = checkpoint.get("arch"), checkpoint.get("state_dict")
        if isinstance(arch, str) and isinstance(weights, dict):
            pairs = weights.items()
            if all(isinstance(k, str) and isinstance(v, Tensor) for k, v in pairs):
                return arch, {k.removeprefix("module."): v for k, v in pairs}
    raise InputError(f'--classifier: {path} is no checkpoint {{"arch", "state_dict"}}')


def _read_checkpoint(path: Path) -> object:
    if not path.is_file():
        raise InputError(f"--classifier: {path} does not exist")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"--classifier: {path} is no PyTorch checkpoint, or holds more than weights, which "
            'could execute code; save {"arch", "state_dict"} alone'
        ) from error
    except Exception as error:  # damaged files make torch.load raise almost anything
        raise InputError(f"--classifier: {path} is damaged or no PyTorch checkpoint") from error
