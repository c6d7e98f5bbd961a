import os
from pathlib import Path

import pytest
import torch

from tuning.cluster.resources import Resources, local_resources
from tuning.cluster.sharing import DAEMON, Gpu, gpu_under_mps, smallest, workers_per_gpu
from tuning.config import make_config

GB = 10**9
H200, A10, T4 = Gpu(150 * GB, 9.0), Gpu(24 * GB, 8.6), Gpu(16 * GB, 7.5)


@pytest.mark.parametrize(
    ("gpu", "most", "precision", "expected"),
    [
        (None, 16, "auto", 1),
        (H200, 16, "auto", 4),
        (H200, 16, "float32", 2),
        (H200, 3, "auto", 3),
        (H200, 0, "auto", 1),
        (A10, 16, "auto", 4),
        (A10, 16, "float32", 2),
        (T4, 16, "auto", 1),
        (T4, 16, "bfloat16", 2),
        (Gpu(4 * GB, 8.6), 16, "auto", 1),
    ],
)
def test_workers_share_a_gpu_where_it_pays_and_memory_and_cores_are_enough(
    gpu: Gpu | None, most: int, precision: str, expected: int
) -> None:
    assert workers_per_gpu(gpu, most, precision) == expected


def test_the_smallest_of_several_gpus_counts() -> None:
    assert smallest("143771, 9.0\n24564, 8.6\n") == Gpu(24564 * 2**20, 8.6)
    assert smallest("[N/A], [N/A]\n24564, 8.6\n") == Gpu(24564 * 2**20, 8.6)
    assert smallest("NVIDIA-SMI has failed because it could not reach the driver.\n") is None
    assert smallest("") is None


@pytest.fixture
def smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with one A10; returns the folder of MPS, which does not run yet."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 23028, 8.6\n")
    program.chmod(0o755)
    pipes = tmp_path / "pipes"
    pipes.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(pipes))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(16))
    return pipes


def resources(**flags: object) -> Resources:
    return local_resources(make_config({"name": "x", **flags}))


def test_without_mps_each_worker_has_a_gpu_of_its_own(smi: Path) -> None:
    # What a daemon that has stopped leaves.
    (smi / "control").touch()
    assert gpu_under_mps() is None
    assert resources() == Resources(1, 1.0, 1)


def test_under_mps_workers_share_it(smi: Path) -> None:
    (smi / DAEMON).write_text("42\n")
    assert resources() == resources(gpus_per_trial="auto") == Resources(1, 0.25, 4)
    # Two workers have half of the memory each.
    assert resources(concurrency=2) == Resources(1, 0.5, 2, limit=2)
    assert resources(cpus_per_trial=5) == Resources(5, 1 / 3, 3)
    assert resources(precision="float32") == Resources(1, 0.5, 2)
    assert resources(gpus_per_trial=1) == Resources(1, 1.0, 1)
    assert resources(gpus_per_trial=0) == Resources(1, 0.0, 16)


@pytest.mark.parametrize("answer", ["", "exit 9", "echo No devices were found"])
def test_mps_without_an_answer_about_the_gpus_is_none(smi: Path, answer: str) -> None:
    (smi / DAEMON).write_text("42\n")
    (smi.parent / "nvidia-smi").write_text(f"#!/bin/sh\n{answer}\n")
    assert gpu_under_mps() is None
    (smi.parent / "nvidia-smi").write_text("not a program")
    assert gpu_under_mps() is None
    (smi.parent / "nvidia-smi").unlink()
    assert gpu_under_mps() is None
