"""Several runs on a SLURM cluster, each on a node of its own, submitted from Python.

From the project's folder on a disk that the nodes share, after `pip install submitit`:

    .venv/bin/python deploy/slurm/submit.py

Each run uses all GPUs and cores of its job. For one run on many nodes there is search.sbatch.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import submitit

# The runs by name, each with its flags of tuning.launch. The same names again continue them.
RUNS = {
    "digits": ["--dataset", "digits", "--trials", "64"],
    "digits-adaptive": ["--dataset", "digits", "--trials", "64", "--procedure", "adaptive"],
}
# What each of them asks SLURM for; names of a cluster's own begin with slurm_.
NODE = {"nodes": 1, "gpus_per_node": 1, "cpus_per_task": 8, "mem_gb": 32, "timeout_min": 240}


@dataclass(frozen=True)
class Run:
    """A run, new or resumed."""

    name: str
    flags: list[str]

    def __call__(self) -> None:
        """Carry it out on this node."""
        resume = ["--resume"] if Path("runs", self.name, "config.yaml").is_file() else []
        launch = [sys.executable, "-m", "tuning.launch", "--name", self.name]
        subprocess.run([*launch, *resume, *self.flags], check=True)

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """What submitit requeues when time is up or the node is taken away."""
        return submitit.helpers.DelayedSubmission(self)


def main() -> None:
    """Submit all runs, as one array of jobs."""
    executor = submitit.AutoExecutor(folder="runs/slurm")
    executor.update_parameters(name="decrop", slurm_signal_delay_s=120, **NODE)
    with executor.batch():
        jobs = {name: executor.submit(Run(name, flags)) for name, flags in RUNS.items()}
    for name, job in jobs.items():
        print(f"{name}: job {job.job_id}, log in {job.paths.stdout}")


if __name__ == "__main__":
    main()
