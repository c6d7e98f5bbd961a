"""The precision in which a run computes, decided once by a short measurement."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from trainables.acceleration.voting import Precision
from trainables.worker import using_threads
from tuning.cluster.context import Context
from tuning.cluster.pool import TaskPool, Urgency

T = TypeVar("T")
# How many workers may be lost while they measure.
TRIES = 3


async def decide(
    context: Context,
    decided: Precision | None,
    measure: Callable[..., Precision],
    *inputs: object,
    here: bool = False,
) -> Precision:
    """The precision from --precision, or the one `decided` before, or what `measure` finds.

    It is float32 where it cannot be measured. With `here`, this process measures if the workers are
    on its own processor, because they may still be starting.
    """
    if context.config.precision != "auto":
        return context.config.precision
    if decided is not None:
        return decided
    resources = context.resources
    if here and resources.device == "cpu" and not resources.shared:
        with using_threads(resources.cpus_per_trial):
            return measure(*inputs, resources)
    return await measured(measure, *inputs, pool=context.pool) or "float32"


async def measured(function: Callable[..., T], *inputs: object, pool: TaskPool) -> T | None:
    """What `function(*inputs, resources)` returns on a worker; None if each one is lost meanwhile.

    A host that is low on memory ends one worker after another; Ray by itself would repeat a task
    that lacked memory without end.
    """
    # Ray ends the process of a task that was declared with a GPU, and so frees the GPU's memory.
    task = ray.remote(max_retries=0, **pool.resources.of_task)(function)
    for _ in range(TRIES):
        try:
            submit = partial(task.remote, *inputs, pool.resources)
            return await pool.result(submit, Urgency.MEASUREMENT)
        except RayTaskError:
            raise
        except RayError:
            continue
    return None
