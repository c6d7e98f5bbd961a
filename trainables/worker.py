"""How a process that trains or votes is set up."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from trainables.errors import InputError

# What a process takes of a GPU besides its tensors: 0.9 GB on an H200, for the CUDA context, the
# kernels and what libraries keep.
PROCESS_BYTES = 10**9


def prepare_worker(device: str, threads: int, gpu_share: float) -> torch.device:
    """Bind this process to its `threads` cores and to its share of a GPU's memory.

    `gpu_share` is in GPUs. Below 1, a worker that needs more memory than its share fails, instead
    of taking memory from its neighbours.

    Raises:
        InputError: when the share is too small to compute anything.
    """
    # Fixed, because with a different number of threads sums differ in the last bits.
    torch.set_num_threads(threads)
    found = torch.device(device)
    if found.type == "cuda" and 0 < gpu_share < 1:
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(tensor_fraction(gpu_share, total))
    return found


def tensor_fraction(gpu_share: float, total: int) -> float:
    """The fraction of a GPU's `total` bytes for the tensors of a worker with this share of it.

    A share of a quarter leaves 5.0 GB of an A10's 24: PyTorch limits tensors only, so the rest of
    what a process takes is left out of it.

    Raises:
        InputError: when nothing is left.
    """
    fraction = gpu_share - PROCESS_BYTES / total
    if fraction <= 0:
        raise InputError(
            f"{gpu_share:g} of a GPU with {total / 1e9:.1f} GB is less than the "
            f"{PROCESS_BYTES / 1e9:g} GB that a process takes before it computes anything; pass "
            "a larger share",
            field="gpus_per_trial",
        )
    return fraction


def free_gpu_memory() -> None:
    """Give the memory of what was dropped back to the GPU, where other processes can use it.

    Recorded passes may be in reference cycles, and hold gigabytes that only the garbage collector
    frees.
    """
    if torch.cuda.is_initialized():
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let PyTorch use `count` threads: with a different number, sums differ in the last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
