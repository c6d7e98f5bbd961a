"""The console script decrop: python -m tuning."""

from importlib import import_module

import pytest

from tuning import __version__
from tuning.__main__ import COMMANDS, main


def test_every_command_is_the_main_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    for command, (module, _) in COMMANDS.items():
        given: list[list[str]] = []
        monkeypatch.setattr(import_module(module), "main", lambda a, given=given: given.append(a))
        main([command, "--flag", "value"])
        assert given == [["--flag", "value"]]


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_names_every_command(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("arguments", [["--version"], ["launch", "--version"]])
def test_version(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"decrop {__version__}\n"


@pytest.mark.parametrize(
    ("argument", "message"),
    [("lunch", "did you mean launch"), ("--vers", "did you mean --version")],
)
def test_an_unknown_command_is_one_line(
    capsys: pytest.CaptureFixture[str], argument: str, message: str
) -> None:
    assert main([argument]) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {argument}: unknown")
    assert message in line
    assert line.count("\n") == 1
