import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.support.commands import SKYPILOT

SCHEMA = yaml.safe_load((Path(__file__).parent / "skypilot.schema.yaml").read_text())


def task() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(SKYPILOT.read_text())
    return loaded


def test_skypilot_knows_every_field() -> None:
    Draft202012Validator(SCHEMA).validate(task())


def test_the_token_is_a_secret_without_a_value() -> None:
    assert task()["secrets"] == {"RAY_AUTH_TOKEN": None}
    assert task()["envs"]["RAY_AUTH_MODE"] == "token"


@pytest.mark.parametrize(
    ("rank", "exists", "calls"),
    [
        (0, False, ["ray start --head", "launch --resume", "launch"]),
        (0, True, ["ray start --head", "launch --resume"]),
        (1, True, ["ray health-check", "ray start --address"]),
    ],
    ids=["new", "after a loss", "worker"],
)
def test_the_first_node_runs_the_driver_and_the_others_join(
    tmp_path: Path, rank: int, exists: bool, calls: list[str]
) -> None:
    programs, log = tmp_path / ".venv" / "bin", tmp_path / "calls"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    (programs / "ray").write_text(f'#!/bin/sh\necho "ray $*" >>{log}\n')
    (programs / "python").write_text(
        f'#!/bin/sh\necho "launch $*" >>{log}\n'
        f'case "$*" in *--resume) exit {0 if exists else 2};; esac\n'
    )
    for name in ("ray", "python"):
        (programs / name).chmod(0o755)
    environment = {
        **task()["envs"],
        "PATH": os.defpath,
        "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2",
        "SKYPILOT_NODE_RANK": str(rank),
    }
    subprocess.run(["bash", "-c", task()["run"]], env=environment, cwd=tmp_path, check=True)
    lines = log.read_text().splitlines()
    assert len(lines) == len(calls)
    for line, call in zip(lines, calls, strict=True):
        kind, _, rest = call.partition(" ")
        assert line.startswith(kind)
        if kind == "ray":
            assert rest in line
        else:
            assert ("--resume" in line) == (rest == "--resume")
            assert "--cluster 10.0.0.1:6379 --name search" in line
            assert "--dataset digits --trials 64" in line
