"""The precision in which denoisers are trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import get_args

import torch
from torch import Tensor

from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.pace import step_by_step
from trainables.decrop.training import DecropTraining
from trainables.models.classifiers import BaseClassifier

# How much faster bfloat16 has to be where it is measured; what is below this margin may be chance.
MIN_SPEEDUP = 1.25
# A processor without such arithmetic is many times slower; this much is enough to stop measuring.
HOPELESS = 2.0
# The measurement takes at least this many seconds, and this many steps in each precision.
_SECONDS, _STEPS = 0.5, 4


def choose_training_precision(
    classifier: BaseClassifier, config: DecropConfig, images: Tensor
) -> Precision:
    """The precision for the training `config` on the device of `images`.

    `images` [n, C, H, W] are examples; they are repeated to fill a batch. On a GPU that computes in
    bfloat16 it is that. Elsewhere steps are timed, and bfloat16 has to be faster by a quarter. A
    classifier that does not run in it is trained through in float32.
    """
    start = partial(step_by_step, config, classifier, images)
    with suppress(Exception):  # a foreign network can raise anything in a different precision
        if computes_bfloat16(images.device):
            return _if_it_runs(start)
        if _faster(start):
            return "bfloat16"
    return "float32"


def computes_bfloat16(device: torch.device) -> bool:
    """Whether `device` is a GPU with bfloat16 arithmetic (NVIDIA: Ampere, of 2020, or later).

    There bfloat16 is not only faster, but also takes two thirds of the memory, and trains as well
    (docs/method.md).
    """
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def _if_it_runs(start: Callable[[Precision], DecropTraining]) -> Precision:
    """bfloat16, after a step in it."""
    # Too large for this GPU in bfloat16 is larger in float32.
    with suppress(torch.OutOfMemoryError):
        start("bfloat16").train_epoch()
    return "bfloat16"


def _faster(start: Callable[[Precision], DecropTraining]) -> bool:
    """Whether steps in bfloat16 are clearly faster."""
    fastest: dict[Precision, float] = dict.fromkeys(get_args(Precision), math.inf)
    trainings = {precision: start(precision) for precision in fastest}
    started, steps = time.perf_counter(), 0
    # Alternating, so that a busy moment affects both. An epoch of one batch is one step.
    while steps < _STEPS or time.perf_counter() - started < _SECONDS:
        for precision, training in trainings.items():
            before = time.perf_counter()
            training.train_epoch()
            fastest[precision] = min(fastest[precision], time.perf_counter() - before)
        steps += 1
        if fastest["bfloat16"] > HOPELESS * fastest["float32"]:
            break
    return fastest["float32"] > MIN_SPEEDUP * fastest["bfloat16"]
