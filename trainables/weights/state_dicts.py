"""State dicts as they are found: under keys of a checkpoint, and with names that wrappers changed.

Which parts of a name come from a wrapper is decided by the names of the network, not guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from trainables.errors import describe_error

# Where training scripts keep the weights. If there are several, plain ones come before averages:
# `model` in torchvision's references has an average `model_ema` beside it, for example.
_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "weights")
_AVERAGES = ("state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema")
# A checkpoint holds another only so often: {"state": {"model": {"state_dict": ...}}}.
_DEPTH = 3
# What is inserted anywhere in a name by torch.compile, (Distributed)DataParallel, FSDP and
# activation checkpointing.
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
# Belongs to the training rather than to the network: averages, and losses with weights.
_TRAINING = re.compile(r"n_averaged$|(ema|ema_model|model_ema|criterion|loss|loss_fn)\.")


class Weights(NamedTuple):
    """A state dict, and where it was found, for messages: "w.pt" or "w.pt (model)"."""

    tensors: dict[str, Tensor]
    where: str


class Misfit(ValueError):
    """Weights that are not those of a network; the message says where they first differ."""


def find_weights(content: object, where: str) -> Weights | None:
    """The state dict in a checkpoint's `content`, plain or under the usual keys; None without one.

    `where` names the file.
    """
    for keys, found in _mappings(content, ()):
        tensors = {name: value for name, value in found.items() if isinstance(value, Tensor)}
        if found and len(tensors) == len(found):
            under = ".".join(keys)
            return Weights(tensors, f"{where} ({under})" if under else where)
    return None


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load a state dict into `network`, whatever wrappers its names come from.

    Raises:
        Misfit: when it is not of that network, whose weights are then undefined.
    """
    own = network.state_dict()
    named, others = unwrapped(weights, own)
    # Files of old versions of PyTorch lack these counts, which evaluation does not use.
    missing = [n for n in own if n not in named and not n.endswith("num_batches_tracked")]
    differences = [
        *_first(missing, "missing"),
        *_first(others, "not in the network"),
        *_first_shape(own, named),
    ]
    if differences:
        raise Misfit(", ".join(differences))
    # Updated, because it also says which version of each layer's layout these are.
    own.update(named)
    try:
        network.load_state_dict(own)
    except (RuntimeError, ValueError) as error:
        raise Misfit(describe_error(error)) from error


def unwrapped(
    weights: Mapping[str, Tensor], names: Collection[str]
) -> tuple[dict[str, Tensor], list[str]]:
    """Those of the `weights` that the network `names`, and the names of others.

    What belongs to the training is neither.

        >>> unwrapped({"module.net.bias": bias, "net.scale": scale}, {"bias"})
        ({"bias": bias}, ["net.scale"])
    """
    weights = _without_wrappers(weights, names)
    prefix = _prefix(weights, names)
    named, others = {}, []
    for name, tensor in weights.items():
        inside = name.removeprefix(prefix)
        if name == prefix + inside and inside in names:
            named[inside] = tensor
        elif not _TRAINING.match(inside):
            others.append(name)
    return named, others


def _mappings(
    content: object, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Mapping[str, object]]]:
    """Mappings with names, from the outside in, each with the keys that lead to it."""
    if not isinstance(content, Mapping) or len(keys) > _DEPTH:
        return
    if all(isinstance(key, str) for key in content):
        yield keys, content
    for key in (*_KEYS, *_AVERAGES):
        if key in content:
            yield from _mappings(content[key], (*keys, key))


def _without_wrappers(
    weights: Mapping[str, Tensor], names: Collection[str]
) -> Mapping[str, Tensor]:
    known = {part for name in names for part in name.split(".")}
    inserted = [wrapper for wrapper in _WRAPPERS if wrapper not in known]
    plain = {
        ".".join(part for part in name.split(".") if part not in inserted): tensor
        for name, tensor in weights.items()
    }
    # Two copies of the weights, one of them wrapped, cannot both have the plain names.
    return plain if len(plain) == len(weights) else weights


def _prefix(weights: Mapping[str, Tensor], names: Collection[str]) -> str:
    """What stands before most of the network's `names`; rather not that of an average."""
    depth = max((name.count(".") + 1 for name in names), default=0)
    found: Counter[str] = Counter()
    for name in weights:
        parts = name.split(".")
        for start in range(max(0, len(parts) - depth), len(parts)):
            if ".".join(parts[start:]) in names:
                found["".join(f"{part}." for part in parts[:start])] += 1
    order = {prefix: (-n, "ema" in prefix, len(prefix)) for prefix, n in found.items()}
    return min(order, key=order.__getitem__, default="")


def _first(names: list[str], problem: str) -> Iterator[str]:
    if len(names) == 1:
        yield f"{names[0]!r} is {problem}"
    elif names:
        yield f"{names[0]!r} and {len(names) - 1} more are {problem}"


def _first_shape(own: Mapping[str, Tensor], named: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in named.items():
        expected, found = list(own[name].shape), list(tensor.shape)
        if expected != found:
            yield f"{name!r} has the shape {found} instead of {expected}"
            return
