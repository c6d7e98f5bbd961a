"""In which precision votes are counted: decided once, by a short measurement on a worker."""

from __future__ import annotations

import ray
from torch import Tensor, nn

from trainables.acceleration.voting import Precision
from trainables.smoothing.precision import choose_precision
from tuning.cluster.resources import Resources
from tuning.config import RunConfig


def decide_precision(
    config: RunConfig, model: nn.Module, image: Tensor, resources: Resources
) -> Precision:
    """What --precision says, or else the one in which `model` votes fastest on `image`."""
    if config.precision != "auto":
        return config.precision
    task = _measure.options(num_cpus=resources.cpus_per_trial, num_gpus=resources.gpus_per_trial)
    found: Precision = ray.get(task.remote(model, image, resources))
    return found


@ray.remote(max_retries=3)
def _measure(model: nn.Module, image: Tensor, resources: Resources) -> Precision:
    device = resources.prepare_worker()
    return choose_precision(model.to(device), image.to(device))
