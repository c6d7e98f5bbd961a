"""Reading what a reference stands for, within a task."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import ray

T = TypeVar("T")


def fetched(reference: ray.ObjectRef[T]) -> T:
    """What `reference` stands for, without lending this task's cores to others meanwhile.

    Ray lends them while the main thread of a task waits: it would start another worker, which
    loads PyTorch, and two tasks would then share the cores of one.
    """
    with ThreadPoolExecutor(1) as waiting:
        return waiting.submit(ray.get, reference).result()
