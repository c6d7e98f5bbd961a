"""The precision in which votes are counted, decided once by a short measurement on a worker."""

from __future__ import annotations

from torch import Tensor, nn

from trainables.acceleration.voting import Precision
from trainables.smoothing.precision import choose_precision
from tuning.cluster.context import Context
from tuning.cluster.precision import decide
from tuning.cluster.resources import Resources


async def decide_precision(
    context: Context, model: nn.Module, image: Tensor, decided: Precision | None
) -> Precision:
    """As `decide`: the one in which `model` votes fastest on `image` [C, H, W], an example."""
    return await decide(context, decided, _measure, model, image)


def _measure(model: nn.Module, image: Tensor, resources: Resources) -> Precision:
    device = resources.prepare_worker()
    return choose_precision(model.to(device), image.to(device))
