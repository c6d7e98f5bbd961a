from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import ValidationError
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.util.accelerators import NVIDIA_TESLA_A10G

from tests.support.commands import ROOT
from tuning.cluster.resources import GPU_TYPE

FILE = ROOT / "deploy" / "ray-up" / "cluster.yaml"


def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def test_ray_takes_the_configuration() -> None:
    prepared = prepare_config(cluster())
    validate_config(prepared)
    assert prepared["available_node_types"]["gpu"]["max_workers"] == 8


def test_ray_refuses_a_field_it_does_not_know() -> None:
    with pytest.raises(ValidationError, match="idle_timeout"):
        validate_config(prepare_config({**cluster(), "idle_timeout": 10}))


def test_no_trial_runs_on_the_head() -> None:
    config = cluster()
    assert config["available_node_types"][config["head_node_type"]]["resources"] == {"CPU": 0}


def test_workers_are_announced_with_the_gpu_of_their_machine() -> None:
    gpu = prepare_config(cluster())["available_node_types"]["gpu"]
    # https://aws.amazon.com/ec2/instance-types/g5: NVIDIA A10G.
    assert gpu["node_config"]["InstanceType"].startswith("g5.")
    assert gpu["labels"] == {GPU_TYPE: NVIDIA_TESLA_A10G}


def test_every_container_finds_the_token_that_is_copied_to_it() -> None:
    config = cluster()
    (mounted,) = config["file_mounts"]
    options = dict(
        option.removeprefix("--env ").split("=")
        for option in config["docker"]["run_options"]
        if option.startswith("--env ")
    )
    assert options["RAY_AUTH_MODE"] == "token"
    assert Path(options["RAY_AUTH_TOKEN_PATH"]).parent == Path(mounted)


def test_the_dashboard_is_reached_through_a_tunnel_alone() -> None:
    (start,) = [line for line in cluster()["head_start_ray_commands"] if "ray start" in line]
    assert "--dashboard-host=127.0.0.1" in start
