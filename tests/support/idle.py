"""Processes of Ray that wait for work."""

from collections.abc import Iterator

import psutil


def waiting() -> Iterator[int]:
    """Those of a Ray that this process has started, if they have loaded PyTorch."""
    for process in psutil.Process().children(recursive=True):
        idle = any("ray::IDLE" in part for part in process.cmdline())
        if idle and any("libtorch_cpu" in mapped.path for mapped in process.memory_maps()):
            yield process.pid
