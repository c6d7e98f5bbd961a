"""Generated samples that the trials of a setting share, through Ray's object store."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Any

import ray
from torch import Tensor

from tuning.cluster.fetching import fetched

# Beyond this, the least recently used samples are dropped.
SHELF_BYTES = 200_000_000


class SharedSamples:
    """A `SampleStore` that all workers of a cluster share.

    Two trials may generate the same samples at the same time: both write the same bytes, and one
    copy is kept. If the store is lost, samples are generated again, and no trial fails.
    """

    def __init__(self, shelf_bytes: int = SHELF_BYTES) -> None:
        self._shelf: Any = ray.remote(num_cpus=0)(_Shelf).remote(shelf_bytes)

    def get(self, key: str) -> Tensor | None:
        """The samples stored under `key`, or None."""
        with contextlib.suppress(ray.exceptions.RayError):
            for reference in fetched(self._shelf.find.remote(key)):
                found: Tensor = fetched(reference)
                # Tensors from Ray are read-only, and shared with all other readers.
                return found.clone()
        return None

    def put(self, key: str, samples: Tensor) -> None:
        """Store `samples` under `key`, unless some are there already."""
        with contextlib.suppress(ray.exceptions.RayError):
            fetched(self._shelf.keep.remote(key, samples.cpu()))


class _Shelf:
    """Owns the samples, so that they outlive the worker that made them."""

    def __init__(self, shelf_bytes: int) -> None:
        self._room = shelf_bytes
        self._kept: OrderedDict[str, tuple[ray.ObjectRef[Tensor], int]] = OrderedDict()

    def find(self, key: str) -> list[ray.ObjectRef[Tensor]]:
        """A reference to the samples, in a list so that Ray does not resolve it; or nothing."""
        if key not in self._kept:
            return []
        self._kept.move_to_end(key)
        return [self._kept[key][0]]

    def keep(self, key: str, samples: Tensor) -> None:
        if key in self._kept:
            return
        size = samples.numel() * samples.element_size()
        self._kept[key] = (ray.put(samples), size)
        self._room -= size
        while self._room < 0:
            _, (_, freed) = self._kept.popitem(last=False)
            self._room += freed
