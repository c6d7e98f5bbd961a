"""What the documentation tells other programs, compared with this project and with them."""

import re
import sys
import tomllib
from pathlib import Path

import optuna
from tensorboard.program import TensorBoard

from tests.support.carried_out import files, launch, run
from tests.support.commands import ROOT
from tests.support.desk import Desk
from tests.support.documented import Command
from tests.support.ray_commands import check_ray_command

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DEPLOYED = "".join(path.read_text() for path in (ROOT / "deploy").rglob("*.yaml"))


def kubectl(command: Command, here: Desk) -> None:
    """Manifests exist, and so do the names of what they declare or refer to."""
    files(command, here)
    for name in re.findall(r"\bdecrop[\w-]*", command.text):
        # KubeRay names the service of the RayCluster `decrop`.
        known = "decrop" if name == "decrop-head-svc" else name
        assert re.search(rf"ame: {known}\b", DEPLOYED), name


def sbatch(command: Command, here: Desk) -> None:
    """The script exists, and hands flags that exist to a search."""
    files(command, here)
    launch(command._replace(words=("decrop", "launch", *command.words[2:])), here)


def pip(command: Command, here: Desk) -> None:
    """The extras are this project's, and the files exist."""
    files(command, here)
    for package, extras in re.findall(r"(\S+)\[([\w,]+)\]", command.text):
        if package in (".", PROJECT["name"]):
            assert {*extras.split(",")} <= PROJECT["optional-dependencies"].keys()


def ray(command: Command, here: Desk) -> None:
    """Ray knows the command and its options, and files exist."""
    check_ray_command(command.words[1:])
    files(command, here)


def tensorboard(command: Command, here: Desk) -> None:
    """TensorBoard takes the flags, and the folder holds what it shows."""
    board = TensorBoard()
    board.configure(argv=list(command.words))
    assert any(Path(board.flags.logdir).rglob("events.out.tfevents.*"))


def optuna_dashboard(command: Command, here: Desk) -> None:
    """Optuna finds the study at the address."""
    assert optuna.get_all_study_names(command.words[1])


def upload(command: Command, here: Desk) -> None:
    """What is uploaded is there."""
    assert Path(command.words[-1], "README.md").is_file()


def code(command: Command, here: Desk) -> None:
    """Python runs it."""
    assert run([sys.executable, *command.words[1:]])
