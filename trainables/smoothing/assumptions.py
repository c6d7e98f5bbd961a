"""What the proof assumes of a classifier: its answer about an image depends on the image only.

Votes are cast in passes of many noisy copies, and may be cast again years later. If an answer also
depends on chance, on earlier calls or on the other images of its pass, there is no one function
that a certificate could be about.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainables.errors import InputError, describe_error
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.counting import forward_batch

# So many images are asked about, an endpoint 13 times together.
EXAMPLES = 2
# How far logits may be apart: in units of their standard deviation, and of the largest logit.
# Networks that compute in bfloat16 round differently in passes of a different size.
TOLERANCE, ROUNDING = 0.02, 1e-5
# The same for a pass that is repeated as it was.
STRICT = 1e-5, 1e-7
# Of the noise under which logits are looked at.
SIGMA = 0.25
TWICE = "twice in a row"
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


class _Pass(NamedTuple):
    """The examples again, in different company: those at `shown` are in the first rows."""

    description: str
    images: Tensor
    shown: Sequence[int]


class _Call(NamedTuple):
    """What goes in and out of a module for one image, where these are tensors."""

    module: str
    given: Tensor | None
    answered: Tensor | None


def check_assumptions(classifier: nn.Module, images: Tensor) -> None:
    """Make sure that the logits of `classifier` depend on the image only, and can be computed.

    `images` [n, C, H, W] are examples of the data set, of which `EXAMPLES` are asked about: in the
    same pass again, in the reverse order, beside a different image, beside padding, and alone. A
    network on this machine is also asked in a pass as large as those of votes, and under noise.

    Raises:
        InputError: when logits are not finite, are the same for all examples, or differ between
            these passes by more than rounding; it names what is likely at fault.
    """
    examples = images[spread(len(images), EXAMPLES)]
    expected = logits_of(classifier, examples, "together").double()
    _check_informative(expected)
    local = isinstance(classifier, BaseClassifier)
    if local:
        _check_noisy(classifier, examples)
    state = {name: tensor.clone() for name, tensor in classifier.state_dict().items()}
    for again in _passes(examples, local):
        found = logits_of(classifier, again.images, again.description)[: len(again.shown)]
        # Passes of different sizes round differently, but the same pass does not.
        strict = local and again.description == TWICE
        if not _same(expected, found, again.shown, STRICT if strict else (TOLERANCE, ROUNDING)):
            raise InputError(
                f"the same image gets different logits {again.description}: "
                f"{_suspect(classifier, examples, again)}; a certificate needs a classifier whose "
                "answer depends on the image only",
                field="classifier",
            )
    for name, tensor in classifier.state_dict().items():
        if not torch.equal(tensor, state[name]):
            raise InputError(
                f"its {name} changes when it classifies images; a certificate needs a classifier "
                "that stays as it is",
                field="classifier",
            )


def spread(available: int, wanted: int) -> list[int]:
    """The positions of at most `wanted` of `available` images, evenly spread."""
    count = min(available, wanted)
    return [i * available // count for i in range(count)]


@torch.no_grad()
def logits_of(classifier: nn.Module, images: Tensor, description: str) -> Tensor:
    """The logits [n, classes] of one pass of a network that may be foreign.

    Raises:
        InputError: when it fails, or returns anything else; `description` says how it was asked.
    """
    try:
        logits: Tensor = classifier(images)
    except InputError:
        raise
    except Exception as error:  # a foreign network can raise anything
        raise InputError(
            f"it fails when images are classified {description} ({describe_error(error)})",
            field="classifier",
        ) from error
    shape = tuple(logits.shape)
    if logits.ndim != 2 or len(logits) != len(images):
        raise InputError(
            f"it returns a tensor of shape {shape} when images are classified {description}, not "
            f"logits [{len(images)}, classes]",
            field="classifier",
        )
    return logits


def check_gradients(classifier: nn.Module, images: Tensor) -> None:
    """Make sure that the logits of `images` [n, C, H, W] have gradients, which training needs.

    Raises:
        InputError: when they have none.
    """
    wanted = images.clone().requires_grad_()
    problem = "its logits have no gradient"
    with torch.enable_grad():
        logits = classifier(wanted)
        if logits.requires_grad:
            try:
                (gradient,) = torch.autograd.grad(logits.square().sum(), wanted, allow_unused=True)
            except Exception as error:  # a foreign network can raise anything
                problem, gradient = f"its gradient fails ({describe_error(error)})", None
            if gradient is not None:
                return
    raise InputError(
        f"{problem} with respect to the image, through which a denoiser is trained; return a "
        "network without no_grad() or detach(), or pass `access` black-box",
        field="classifier",
    )


def _passes(examples: Tensor, local: bool) -> Iterator[_Pass]:
    count = len(examples)
    in_order = range(count)
    yield _Pass(TWICE, examples, in_order)
    yield _Pass("in the reverse order", examples.flip(0), in_order[::-1])
    generator = torch.Generator().manual_seed(0)
    other = torch.rand(examples[:1].shape, generator=generator).to(examples.device)
    yield _Pass("beside a different image", torch.cat((examples, other)), in_order)
    # As in the last pass of votes, which is filled up.
    padding = torch.full_like(other, math.nan)
    yield _Pass("beside padding", torch.cat((examples, padding)), in_order)
    for index in in_order:
        yield _Pass("alone", examples[index : index + 1], [index])
    rows = forward_batch(examples[0])
    if local and rows > count:
        whole = examples[[index % count for index in range(rows)]]
        yield _Pass(f"in a pass of {rows} images", whole, in_order)


def _check_informative(logits: Tensor) -> None:
    if not logits.isfinite().all():
        raise InputError(
            "its logits for images of the data set are not finite (NaN or infinite); check its "
            "weights and its normalisation",
            field="classifier",
        )
    # Labels and probabilities may well be the same for two images, unlike logits.
    sums = logits.sum(dim=1)
    shares = bool((logits >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3)
    varied = (logits - logits[:1]).abs().max() > ROUNDING * logits.abs().max()
    if len(logits) > 1 and not shares and not varied:
        raise InputError(
            "it gives all images the same logits; check its weights and its normalisation",
            field="classifier",
        )


def _check_noisy(classifier: nn.Module, examples: Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(examples.shape, generator=generator).to(examples.device)
    if not logits_of(classifier, examples + SIGMA * noise, "under noise").isfinite().all():
        raise InputError(
            "its logits are not finite (NaN or infinite) for pixels below 0 or above 1, which "
            "noise leads to; it has to take them, for example by clamping",
            field="classifier",
        )


def _same(
    expected: Tensor, found: Tensor, shown: Sequence[int], allowed: tuple[float, float]
) -> bool:
    most = allowed[0] * expected.std() + allowed[1] * expected.abs().max()
    return bool(((found - expected[list(shown)]).abs() <= most).all())


def _suspect(classifier: nn.Module, examples: Tensor, again: _Pass) -> str:
    """What makes the logits differ, as far as that can be seen from outside."""
    for name, module in classifier.named_modules():
        if isinstance(module, _BATCH_NORMS) and module.running_mean is None:
            return f"{_named(name, module)} is a batch norm without running statistics"
    for name, module in classifier.named_modules():
        if module.training:
            return f"{_named(name, module)} is in training mode"
    chance = again.description == TWICE
    reason = "random, or keeps a state" if chance else "mixing the images of a pass"
    return f"{_first_difference(classifier, examples, again)} is {reason}"


def _first_difference(classifier: nn.Module, examples: Tensor, again: _Pass) -> str:
    """The innermost module that gets the same in both passes, and answers differently."""
    row = again.shown[0]
    before, after = _calls(classifier, examples, row), _calls(classifier, again.images, 0)
    for one, other in zip(before, after, strict=False):
        if _close(one.given, other.given) and not _close(one.answered, other.answered):
            return one.module
    return type(classifier).__name__


@torch.no_grad()
def _calls(classifier: nn.Module, images: Tensor, row: int) -> list[_Call]:
    """Every call of a module in a pass, in the order in which they end."""
    calls: list[_Call] = []

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        given = _of_image(inputs[0] if inputs else None, len(images), row)
        calls.append(_Call(_named(name, module), given, _of_image(output, len(images), row)))

    with ExitStack() as hooks:
        for name, module in classifier.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        classifier(images)
    return calls


def _named(name: str, module: nn.Module) -> str:
    """The module as its author knows it: a `BaseClassifier` holds the user's as `network`."""
    own = name.removeprefix("network").removeprefix(".")
    return f"{own} ({type(module).__name__})" if own else type(module).__name__


def _of_image(value: object, images: int, row: int) -> Tensor | None:
    """The part of `value` that is about one image, if it is a tensor with a row for each."""
    if isinstance(value, Tensor) and value.ndim and len(value) == images:
        return value[row].float()
    return None


def _close(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return one is None and other is None
    return torch.allclose(one, other, rtol=1e-3, atol=1e-5, equal_nan=True)
