"""The precision in which votes are counted, decided once by a short measurement on a worker."""

from __future__ import annotations

import ray
from torch import Tensor, nn

from trainables.acceleration.voting import Precision
from trainables.smoothing.precision import choose_precision
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources


def decide_precision(
    context: Context, model: nn.Module, image: Tensor, decided: Precision | None
) -> Precision:
    """The precision from --precision, or the one `decided` before, or the fastest for `model`.

    `image` [C, H, W] is an example.
    """
    config, resources = context.config, context.resources
    if config.precision != "auto":
        return config.precision
    if decided is not None:
        return decided
    task = _measure.options(num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial)
    found: Precision = ray.get(task.remote(model, image, resources))
    return found


@ray.remote(max_retries=3)
def _measure(model: nn.Module, image: Tensor, resources: Resources) -> Precision:
    device = resources.prepare_worker()
    return choose_precision(model.to(device), image.to(device))
