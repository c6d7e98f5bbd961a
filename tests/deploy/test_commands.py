import pytest

from tests.support.commands import commands
from tests.support.ray_commands import check_ray_command
from tuning.config import RunConfig, make_config
from tuning.flags import launch_line

LAUNCHES = commands(r"python -m tuning\.launch")
RAY_COMMANDS = commands("ray")


def name(part: str | list[str]) -> str:
    return part if isinstance(part, str) else " ".join(part)


@pytest.mark.parametrize(("place", "given"), LAUNCHES, ids=name)
def test_every_launch_has_flags_that_exist_and_values_they_take(
    place: str, given: list[str]
) -> None:
    passed = launch_line().read(given)
    values = {name: value for name, value in passed.items() if name in RunConfig.model_fields}
    make_config({"name": "unnamed", **values})


@pytest.mark.parametrize(("place", "given"), RAY_COMMANDS, ids=name)
def test_every_ray_command_has_options_that_ray_knows(place: str, given: list[str]) -> None:
    check_ray_command(given)


def test_the_commands_are_found() -> None:
    places = {place.split()[0] for place, _ in LAUNCHES}
    assert places == {"rayjob", "kueue", "slurm", "sky", "cluster.md"}
    assert len(LAUNCHES) >= 8
