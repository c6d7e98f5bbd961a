"""How many workers share a GPU, unless the user says it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from trainables.acceleration.voting import Precision

# Where the daemon of NVIDIA's Multi-Process Service (MPS) is reached, unless the environment says
# otherwise. The file is there while it runs, the sockets also afterwards.
PIPES, DAEMON = "/tmp/nvidia-mps", "nvidia-cuda-mps-control.pid"
# The first compute capability with bfloat16 arithmetic.
AMPERE = 8.0


class Gpu(NamedTuple):
    """What a GPU offers: its memory in bytes, and its compute capability."""

    total: int
    capability: float


class Sharing(NamedTuple):
    """The most workers that gain anything from sharing a GPU, and the bytes that each needs."""

    workers: int
    bytes_each: int


# Measured on an H200 under MPS (docs/benchmarks.md). The memory is that of a DnCNN 17 x 64 with
# batches of 200: 5.0 GB in bfloat16, 7.3 in TF32, 10 without it.
SHARING: dict[Precision, Sharing] = {
    "bfloat16": Sharing(4, 6 * 10**9),
    "float32": Sharing(2, 10 * 10**9),
}


def workers_per_gpu(gpu: Gpu | None, most: int, precision: str) -> int:
    """How many workers share a `gpu` under MPS, if cores and --concurrency allow `most` of them.

    `precision` is --precision. Without MPS `gpu` is None: workers would take turns on it, and a
    single one is faster.
    """
    if gpu is None:
        return 1
    rounded = precision == "bfloat16" or (precision == "auto" and gpu.capability >= AMPERE)
    sharing = SHARING["bfloat16" if rounded else "float32"]
    return max(1, min(sharing.workers, gpu.total // sharing.bytes_each, most))


def gpu_under_mps() -> Gpu | None:
    """The smallest GPU of this machine if MPS is running, else None."""
    pipes = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY") or PIPES)
    program = shutil.which("nvidia-smi")
    if program is None or not (pipes / DAEMON).is_file():
        return None
    # Asking PyTorch would make this process a user of the GPU, and take memory from the workers.
    query = [program, "--query-gpu=memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return smallest(answer.stdout)


def smallest(listed: str) -> Gpu | None:
    """The smallest GPU in the lines of nvidia-smi, MiB and capability; None if there is none."""
    found = []
    for line in listed.splitlines():
        memory, _, capability = line.partition(",")
        try:
            found.append(Gpu(int(memory) * 2**20, float(capability)))
        except ValueError:
            # "[N/A]", and messages about cards that do not answer.
            continue
    return min(found, default=None)
