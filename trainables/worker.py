"""A process that trains or votes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def prepare_worker(device: str, threads: int, gpu_share: float) -> torch.device:
    """Bind this process to its `threads` cores and to its share of a GPU's memory.

    `gpu_share` is in GPUs; below 1, a worker that wants more memory than its share runs out of it
    alone, and not those beside it.
    """
    # A fixed number of threads: sums in another order would change the last bits.
    torch.set_num_threads(threads)
    found = torch.device(device)
    if found.type == "cuda" and 0 < gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(gpu_share)
    return found


@contextmanager
def one_thread() -> Iterator[None]:
    """Have PyTorch use one thread for a while: sums in another order change the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
