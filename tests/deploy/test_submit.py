"""The submitit script, with a stand-in for submitit, which is no dependency of the project."""

import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.commands import ROOT
from tuning.config import RunConfig, make_config
from tuning.flags import launch_line

SCRIPT = ROOT / "deploy" / "slurm" / "submit.py"


class Executor:
    """Notes what is submitted."""

    made: "Executor"

    def __init__(self, folder: str) -> None:
        self.folder, self.submitted, self.parameters = folder, [], {}  # type: ignore[var-annotated]
        type(self).made = self

    def update_parameters(self, **parameters: Any) -> None:
        self.parameters = parameters

    def batch(self) -> "Executor":
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, run: Any) -> SimpleNamespace:
        self.submitted.append(run)
        return SimpleNamespace(job_id="1_0", paths=SimpleNamespace(stdout="log"))


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> Executor:
    """What the script submits to SLURM."""
    helpers = SimpleNamespace(DelayedSubmission=lambda run: ("again", run))
    stand_in = SimpleNamespace(AutoExecutor=Executor, helpers=helpers)
    monkeypatch.setitem(sys.modules, "submitit", stand_in)
    runpy.run_path(str(SCRIPT), run_name="__main__")
    return Executor.made


def test_every_run_has_a_node_with_a_gpu_of_its_own(executor: Executor) -> None:
    assert executor.parameters["nodes"] == executor.parameters["gpus_per_node"] == 1
    assert len({run.name for run in executor.submitted}) == len(executor.submitted) > 1


def test_runs_have_flags_that_exist(executor: Executor) -> None:
    for run in executor.submitted:
        passed = launch_line().read(run.flags)
        values = {name: value for name, value in passed.items() if name in RunConfig.model_fields}
        make_config({"name": run.name, **values})


def test_a_run_that_is_requeued_resumes(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, commands = executor.submitted[0], []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("subprocess.run", lambda command, check: commands.append(command))
    again, same = run.checkpoint()
    assert (again, same) == ("again", run)
    run()
    (tmp_path / "runs" / run.name).mkdir(parents=True)
    (tmp_path / "runs" / run.name / "config.yaml").touch()
    same()
    expected = [sys.executable, "-m", "tuning.launch", "--name", run.name]
    assert commands == [[*expected, *run.flags], [*expected, "--resume", *run.flags]]
