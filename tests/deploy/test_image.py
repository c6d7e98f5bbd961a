import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.support.commands import ROOT

DOCKERFILE = ROOT / "deploy" / "Dockerfile"
HADOLINT = Path(sys.executable).parent / "hadolint"


def instructions(name: str) -> list[str]:
    lines = DOCKERFILE.read_text().replace("\\\n", " ").splitlines()
    return [line.removeprefix(f"{name} ") for line in lines if line.startswith(f"{name} ")]


def copied() -> list[str]:
    return [source for line in instructions("COPY") for source in shlex.split(line)[:-1]]


def allowed() -> set[str]:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return {line.removeprefix("!") for line in lines if line.startswith("!")}


def test_dockerfile_passes_its_linter() -> None:
    done = subprocess.run([HADOLINT, DOCKERFILE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_build_sees_what_is_copied_and_nothing_else() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert next(line for line in lines if not line.startswith("#")) == "*"
    assert allowed() == set(copied())
    for source in copied():
        assert (ROOT / source).exists(), source


def test_the_image_holds_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = {pattern.removesuffix("*") for pattern in found}
    files = {project["project"]["readme"], *project["project"]["license-files"], "pyproject.toml"}
    assert packages | files | {"requirements/run.txt"} == set(copied())


def test_the_image_does_not_run_as_root_and_says_where_home_is() -> None:
    assert instructions("USER") == ["1000"]
    assert any("useradd --create-home --uid 1000" in run for run in instructions("RUN"))
    assert any("HOME=/home/decrop" in environment for environment in instructions("ENV"))


def test_the_image_has_the_python_that_the_tests_ran_with() -> None:
    wanted = f"python:{sys.version_info.major}.{sys.version_info.minor}-"
    assert instructions("FROM")[0].startswith(wanted)
