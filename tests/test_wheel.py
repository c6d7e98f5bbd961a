"""The wheel as users get it: built, installed beside nothing else, and tried in their folder."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.support.runs import HANGING

ROOT = Path(__file__).parents[1]
PACKAGES = ("results", "search_spaces", "trainables", "tuning")
HOSTILE = "raise SystemExit('the results.py of the working folder was imported')"
FACTORY = """
from trainables.models.architectures import DigitsCNN

class Own(DigitsCNN):
    pass
"""

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources, because building leaves files among them."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    pip("wheel", "--no-build-isolation", f"--wheel-dir={folder}", str(source))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Path:
    """The folder where the wheel is installed."""
    target = wheel.parent / "installed"
    pip("install", f"--target={target}", str(wheel))
    return target


@pytest.fixture
def user(installed: Path, tmp_path: Path) -> Command:
    """Runs Python with the wheel, in a folder of a user who has a `results.py` and a network."""
    (tmp_path / "results.py").write_text(HOSTILE)
    (tmp_path / "networks.py").write_text(FACTORY)
    environment = os.environ | {"PYTHONPATH": str(installed), "HOME": str(tmp_path)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True,
            text=True, check=False, timeout=HANGING,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    return run


def pip(*arguments: str) -> None:
    offline = ["--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", *arguments, *offline]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr


def test_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    files = {
        path.relative_to(ROOT).as_posix()
        for name in PACKAGES
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert held == files
    assert {f"{name}/py.typed" for name in PACKAGES} <= held


def test_console_script_says_its_version(installed: Path, user: Command) -> None:
    (version,) = installed.glob("decrop_tuning-*.dist-info")
    shown = user(str(installed / "bin" / "decrop"), "--version").stdout.split()
    assert shown == ["decrop", version.name.split("-")[1].removesuffix(".dist")]


@pytest.mark.parametrize("command", ["launch", "certify", "report", "pretrain", "serve"])
def test_every_command_has_help(installed: Path, user: Command, command: str) -> None:
    shown = user(str(installed / "bin" / "decrop"), command, "--help").stdout
    assert shown.startswith(f"usage: decrop {command} ")


@pytest.mark.parametrize("module", [["-m", "tuning.launch"], ["bin/decrop", "launch"]], ids=str)
def test_a_run_is_planned_with_a_network_of_the_working_folder(
    installed: Path, user: Command, module: list[str]
) -> None:
    program = [str(installed / part) if part == "bin/decrop" else part for part in module]
    planned = user(*program, "--dry-run", "--classifier=networks:Own").stdout
    assert "dry run: nothing was started or written" in planned


def test_the_report_as_a_module_needs_a_safe_path(user: Command) -> None:
    # Python itself takes `results` from the working folder, unless it is told not to look there.
    assert user("-P", "-m", "results.report", "--help").stdout.startswith("usage: decrop report")


@pytest.mark.timeout(2 * HANGING)
def test_workers_do_not_import_from_the_working_folder_either(user: Command) -> None:
    user(
        "-c",
        "import tuning.confirmation.training as training, networks, ray\n"
        # Again, if others that start at the same time take too long for it.
        "for left in (2, 1, 0):\n"
        "    try:\n"
        "        ray.init('local', num_cpus=1, include_dashboard=False, log_to_driver=False)\n"
        "        break\n"
        "    except Exception:\n"
        "        ray.shutdown()\n"
        "        if not left:\n"
        "            raise\n"
        "name = ray.remote(lambda kind: kind.__name__)\n"
        # Its module imports `results.store`.
        "assert ray.get(name.remote(training.Training)) == 'Training'\n"
        # A network of the user is found there as well.
        "assert ray.get(name.remote(networks.Own)) == 'Own'\n",
    )
