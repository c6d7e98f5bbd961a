"""What workers of a local Ray have imported before there is work for them."""

import subprocess
import sys
from typing import Any

import pytest
import ray

from tests.support.runs import HANGING, REPO, Launcher
from tuning.cluster.local_ray import IMPORTED


class Imported:
    def names(self) -> set[str]:
        return {*sys.modules}


@pytest.mark.usefixtures("local_ray")
def test_a_worker_has_imported_what_it_needs_before_its_first_task() -> None:
    worker: Any = ray.remote(num_cpus=0)(Imported).remote()
    assert {*IMPORTED} <= ray.get(worker.names.remote())


def test_trials_run_in_the_processes_that_have_imported_pytorch_since_ray_started(
    launcher: Launcher,
) -> None:
    program = """
import os, time
from tests.support.idle import waiting
from tuning.cluster.local_ray import local_ray, prepare
from tuning.cluster.resources import Resources

class Process:
    def id(self):
        return os.getpid()

prepare()
with local_ray(Resources(1, 0.0, 2)):
    import ray
    from ray.tune.execution import class_cache
    from tuning.search.tune_internals import configure_tune
    configure_tune()
    while len(ready := {*waiting()}) < 2:
        time.sleep(0.1)
    trial = class_cache._ActorClassCache().get(Process)
    trials = [trial.remote() for _ in range(2)]
    assert {*ray.get([trial.id.remote() for trial in trials])} == ready
"""
    command = [sys.executable, "-c", program]
    subprocess.run(command, cwd=REPO, env=launcher.environment, timeout=HANGING, check=True)
