import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.support.commands import CLUSTER_DOC, ROOT, SLURM, code_blocks, fenced, shell_texts
from tests.support.runs import HANGING, wait_until

SHELLCHECK = str(Path(sys.executable).parent / "shellcheck")
TEXTS = shell_texts()
# The virtual environment is made by other commands.
IGNORED = ["--exclude=SC1091"]


@pytest.mark.parametrize("place", TEXTS)
def test_what_a_shell_reads_is_sound(place: str) -> None:
    for command in (["bash", "-n"], [SHELLCHECK, "--shell=bash", *IGNORED, "-"]):
        if not shutil.which(command[0]):
            pytest.skip("shellcheck has no wheel for this platform")
        done = subprocess.run(
            command, input=TEXTS[place], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_shell_hides_from_the_checks() -> None:
    assert {language for language, _ in fenced(CLUSTER_DOC.read_text())} <= {"yaml", "python"}
    assert CLUSTER_DOC.read_text().count("```") == 2 * len(fenced(CLUSTER_DOC.read_text()))
    assert len(code_blocks(CLUSTER_DOC.read_text())) > 10


def test_environment_variables_are_ones_that_ray_reads() -> None:
    texts = [CLUSTER_DOC.read_text(), *(path.read_text() for path in deployment_files())]
    named = set(re.findall(r"\bRAY_[A-Z_]+[A-Z]\b", "\n".join(texts)))
    assert {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"} <= named
    unread = set(named)
    for content in installed_ray():
        unread -= {name for name in unread if name.encode() in content}
        if not unread:
            break
    assert unread == set()


def deployment_files() -> list[Path]:
    return [path for path in (ROOT / "deploy").rglob("*") if path.is_file()]


def installed_ray() -> Iterator[bytes]:
    package = Path(ray.__file__).parent
    yield (package / "_raylet.so").read_bytes()
    for path in package.rglob("*.py"):
        yield path.read_bytes()


def test_the_job_asks_slurm_for_what_its_script_relies_on() -> None:
    options = re.findall(r"^#SBATCH (--[a-z-]+)(?:=(\S+))?$", SLURM.read_text(), flags=re.MULTILINE)
    asked = dict(options)
    assert {"--requeue", "--exclusive"} <= set(asked)
    assert asked["--ntasks-per-node"] == "1"
    assert asked["--signal"].startswith("B:USR1@")


DRIVER = """
import signal, sys, time
from pathlib import Path

def end(number, frame):
    Path("happened").open("a").write("saved\\n")
    sys.exit(143)

signal.signal(signal.SIGTERM, end)
Path("ready").touch()
time.sleep(1000)
"""


def test_when_time_is_up_the_driver_saves_its_trials_and_the_job_is_queued_again(
    tmp_path: Path,
) -> None:
    commands = tmp_path / "bin"
    commands.mkdir()
    # What SLURM would do on one node, and what it is told.
    for name, script in (
        (
            "srun",
            'trap "echo killed >>happened" TERM; while [ "$1" != -- ]; do shift; done; "${@:2}"',
        ),
        ("scontrol", 'echo "$@" >>happened'),
    ):
        (commands / name).write_text(f"#!/usr/bin/env bash\n{script}\n")
        (commands / name).chmod(0o755)
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "activate").touch()
    (commands / "python").symlink_to(sys.executable)
    (tmp_path / "tuning").mkdir()
    (tmp_path / "tuning" / "__init__.py").touch()
    (tmp_path / "tuning" / "launch.py").write_text(DRIVER)
    job = {"SLURM_JOB_ID": "42", "SLURM_JOB_NUM_NODES": "1", "SLURM_CPUS_ON_NODE": "2"}
    environment = {"PATH": f"{commands}:{os.environ['PATH']}", "HEAD": "10.0.0.1", **job}
    process = subprocess.Popen(
        ["bash", str(SLURM), "--shots", "5"], cwd=tmp_path, env=environment, text=True
    )
    wait_until((tmp_path / "ready").exists, process)
    process.send_signal(signal.SIGUSR1)
    assert process.wait(HANGING) != 0
    assert (tmp_path / "happened").read_text().splitlines() == ["saved", "requeue 42"]
