"""Commands that users can copy do what they say."""

import shlex
import shutil
import subprocess
import sys
from typing import Any

import pytest

from tuning.config import make_config
from tuning.config.command import command_of, python_command
from tuning.flags import launch_line


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"dataset": "digits,mnist", "shots": "5,10%", "download": True, "out": "some where"},
        {"set": ["mix=0.5", "flip=true", "schedule=cosine", "sigma=1e-05"], "trials": 3},
        {"radii": "0.1,0.5", "n": 500, "alpha": 0.01, "budget": "90s", "device_hours": 2},
        {"objective": "certified-accuracy@0.5", "noise": "quantised", "seed": 7, "transfer": 0},
        {"classifier": "torchvision:resnet18", "mean": "0.1,0.2,0.3", "std": "0.5,0.5,0.5"},
        {
            "procedure": "adaptive",
            "cluster": "auto",
            "dataset": "folder",
            "class_order": "b,a",
            "classifier": "x.pt",
            "image_size": 64,
            "data_dir": "here",
        },
    ],
    ids=str,
)
def test_a_command_makes_its_configuration_again(given: dict[str, Any]) -> None:
    config = make_config({"name": "x", **given})
    program, command, *arguments = shlex.split(command_of(config))
    assert (program, command) == ("decrop", "launch")
    assert make_config(launch_line().read(arguments)) == config


def test_a_command_names_only_what_differs_from_the_defaults() -> None:
    config = make_config({"name": "x", "shots": "5,10", "trials": 16, "seed": 0})
    assert command_of(config) == "decrop launch --shots 5,10 --name x"


def test_a_command_for_users_runs_this_python_by_name_or_by_its_path(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = subprocess.run(
        python_command("-c", "import sys; print(sys.executable, *sys.argv[1:])", "a b"),
        shell=True, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"{sys.executable} a b\n"
    for found, python in ((sys.executable, "python"), ("/elsewhere/python", sys.executable)):
        monkeypatch.setattr(shutil, "which", lambda name, found=found: found)
        assert shlex.split(python_command("-m", "x"))[0] == python
