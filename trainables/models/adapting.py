"""Networks from elsewhere, adapted to what is expected of a base classifier.

Hooks and types are changed, and not the modules, so that the names of layers stay what they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from trainables.models.classifiers import BaseClassifier


def adapt(classifier: BaseClassifier, images: Tensor) -> None:
    """Make `classifier` take float32 images and return logits, if it does not.

    Of an answer that is an object or a dict, such as those of transformers, the `logits` are taken.
    Weights in float16, bfloat16 or float64 are converted to float32 if images have to be in their
    type; a network that converts images itself stays as it is.

    Raises:
        InputError: when it does not classify `images` [n >= 2, C, H, W] even then.
    """
    network = classifier.network
    answer = _answer(classifier, images)
    types = {p.dtype for p in network.parameters() if p.is_floating_point()}
    if answer is None and types - {torch.float32}:
        network.float()
        answer = _answer(classifier, images)
    if isinstance(answer, Mapping) and isinstance(answer.get("logits"), Tensor):
        network.register_forward_hook(_entry)
    elif isinstance(getattr(answer, "logits", None), Tensor):
        network.register_forward_hook(_logits)
    classifier.check(images)


def _answer(classifier: BaseClassifier, images: Tensor) -> object:
    """What the classifier returns; None if it fails."""
    # Anything can be raised by a foreign network; `check` reports what it is.
    with suppress(Exception), torch.no_grad():
        return classifier(images)
    return None


def _entry(network: nn.Module, inputs: Any, answer: Any) -> Any:
    return answer["logits"]


def _logits(network: nn.Module, inputs: Any, answer: Any) -> Any:
    return answer.logits
