import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from tests.support.commands import CLUSTER_DOC, ROOT, SLURM, code_blocks, fenced, shell_texts

SHELLCHECK = str(Path(sys.executable).parent / "shellcheck")
TEXTS = shell_texts()
# The virtual environment is made by other commands.
IGNORED = ["--exclude=SC1091"]


@pytest.mark.parametrize("place", TEXTS)
def test_what_a_shell_reads_is_sound(place: str) -> None:
    for command in (["bash", "-n"], [SHELLCHECK, "--shell=bash", *IGNORED, "-"]):
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
    assert "trap 'scontrol requeue" in SLURM.read_text()
