"""How a process that trains or votes is set up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def prepare_worker(device: str, threads: int, gpu_share: float) -> torch.device:
    """Bind this process to its `threads` cores and to its share of a GPU's memory.

    `gpu_share` is in GPUs. Below 1, a worker that needs more memory than its share fails, instead
    of taking memory from its neighbours.
    """
    # Fixed, because with a different number of threads sums differ in the last bits.
    torch.set_num_threads(threads)
    found = torch.device(device)
    if found.type == "cuda" and 0 < gpu_share < 1:
        torch.cuda.set_per_process_memory_fraction(gpu_share)
    return found


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads: with a different number, sums differ in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
