"""The command line of a run: its flags are the fields of its configuration."""

from pathlib import Path

import pytest

from trainables.command import UsageError, default, flag
from tuning.certify import certify_line
from tuning.config import GROUPS, RunConfig, make_config
from tuning.flags import launch_line, with_table

README = Path(__file__).parents[2] / "README.md"


def sections(text: str) -> dict[str, str]:
    """The help groups of a --help, by title."""
    groups: dict[str, str] = {}
    for block in text.split("\n\n"):
        title, _, rest = block.partition(":\n")
        groups[title] = rest
    return groups


def test_readme_holds_the_table_that_the_fields_make() -> None:
    text = README.read_text()
    assert with_table(text) == text


def test_every_field_is_in_the_help_group_of_its_class() -> None:
    shown = sections(launch_line().format_help())
    assert list(shown)[-len(GROUPS) :] == list(GROUPS)
    for title, model in GROUPS.items():
        for name in model.model_fields:
            assert f"  {flag(name)} " in f"{shown[title]}\n".replace("\n", " \n")
    assert {n for model in GROUPS.values() for n in model.model_fields} == {*RunConfig.model_fields}


def test_the_default_that_is_shown_is_the_one_that_holds() -> None:
    plain = make_config({"name": "x"})
    for name, field in RunConfig.model_fields.items():
        shown = default(field)
        if shown and not any(letter in shown for letter in " ;"):
            assert make_config({"name": "x", name: shown}) == plain, name


def test_flags_that_were_not_passed_are_not_there() -> None:
    assert launch_line().read([]) == {}
    given = launch_line().read(["--n=5", "--download", "--set=a=1", "--set", "b=2", "--json"])
    assert given == {"n": "5", "download": True, "set": ["a=1", "b=2"], "json": True}


@pytest.mark.parametrize("arguments", [["--cluster"], ["--cluster", "--name=x"]])
def test_a_cluster_without_an_address_is_that_of_the_environment(arguments: list[str]) -> None:
    assert launch_line().read(arguments)["cluster"] == "auto"
    assert launch_line().read(["--cluster", "h:1", "--name=x"])["cluster"] == "h:1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--trails=3"], "--trails: unknown; did you mean --trials"),
        (["--trial=3"], "--trial: unknown; did you mean --trials"),
        (["stray"], "stray: unknown"),
        (["--n"], "--n: expected one argument"),
        (["--resume=yes"], "--resume: ignored explicit argument 'yes'"),
    ],
)
def test_what_cannot_be_understood_is_named(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        launch_line().read(arguments)
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("(see --help)")


def test_certify_takes_the_flags_on_which_certificates_depend() -> None:
    line = certify_line()
    given = line.read(["runs/x", "--radii=0.5", "--cluster=auto", "--seed=1", "--std=0.2"])
    assert given == {
        "source": "runs/x", "radii": "0.5", "cluster": "auto", "seed": "1", "std": "0.2",
    }  # fmt: skip
    with pytest.raises(UsageError, match="--trials: unknown"):
        line.read(["--trials=3"])
