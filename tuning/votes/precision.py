"""The precision in which votes are counted, decided once by a short measurement on a worker."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.acceleration.voting import Precision
from trainables.smoothing.precision import choose_precision
from tuning.cluster.context import Context
from tuning.cluster.measuring import measured
from tuning.cluster.resources import Resources


def decide_precision(
    context: Context, model: nn.Module, image: Tensor, decided: Precision | None
) -> Precision:
    """The precision from --precision, or the one `decided` before, or the fastest for `model`.

    `image` [C, H, W] is an example. It is float32 where it cannot be measured.
    """
    config = context.config
    if config.precision != "auto":
        return config.precision
    if decided is not None:
        return decided
    return measured(_measure, model, image, resources=context.resources) or "float32"


def _measure(model: nn.Module, image: Tensor, resources: Resources) -> Precision:
    device = resources.prepare_worker()
    return choose_precision(model.to(device), image.to(device))
