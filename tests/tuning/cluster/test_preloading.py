"""What workers of a local Ray have imported before there is work for them."""

import subprocess
import sys

from tests.support.runs import HANGING, REPO, Launcher


def test_trials_run_in_the_processes_that_have_imported_pytorch_since_ray_started(
    launcher: Launcher,
) -> None:
    program = """
import os, sys, time
from tests.support.idle import waiting
from tuning.cluster.local_ray import IMPORTED, local_ray, prepare
from tuning.cluster.resources import Resources

class Process:
    def id(self):
        missing = {*IMPORTED} - {*sys.modules}
        assert not missing, missing
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
