"""The precision in which a run computes, decided once by a short measurement on a worker."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from trainables.acceleration.voting import Precision
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources

T = TypeVar("T")
# How many workers may be lost while they measure.
TRIES = 3


def decide(
    context: Context,
    decided: Precision | None,
    measure: Callable[..., Precision],
    *inputs: object,
) -> Precision:
    """The precision from --precision, or the one `decided` before, or what `measure` finds.

    It is float32 where it cannot be measured.
    """
    if context.config.precision != "auto":
        return context.config.precision
    if decided is not None:
        return decided
    return measured(measure, *inputs, resources=context.resources) or "float32"


def measured(function: Callable[..., T], *inputs: object, resources: Resources) -> T | None:
    """What `function(*inputs, resources)` returns on a worker; None if each one is lost meanwhile.

    A host that is low on memory ends one worker after another; Ray by itself would repeat a task
    that lacked memory without end.
    """
    # Ray ends the process of a task that was declared with a GPU, and so frees the GPU's memory.
    task = ray.remote(max_retries=0, **resources.of_task)(function)
    for _ in range(TRIES):
        try:
            found: T = ray.get(task.remote(*inputs, resources))
        except RayTaskError:
            raise
        except RayError:
            continue
        return found
    return None
