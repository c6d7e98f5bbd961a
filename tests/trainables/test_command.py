"""Command lines made from the fields of a model."""

import errno
import re
import tempfile
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, Field

from trainables.command import (
    CommandLine,
    Flag,
    UsageError,
    default,
    metavar,
    read_model,
    run_command,
)
from trainables.errors import InputError


class Example(BaseModel):
    source: Annotated[Path, Flag("FILE", positional=True)] = Field(description="what is read")
    least: float | None = Field(None, ge=0, description="at least 5%")
    kind: Literal["plain", "fancy"] = Field("plain", description="how")
    places: Annotated[tuple[str, ...], Flag("A[,A]")] = Field(("a", "b"), description="where")
    where: Annotated[str | None, Flag("URL", default="here", alone="auto")] = Field(
        None, description="on what"
    )
    fast: bool = Field(False, description="hurry")
    count: int = Field(0, description="how often")


def test_help_holds_what_the_fields_say() -> None:
    shown = {name: (metavar(f), default(f)) for name, f in Example.model_fields.items()}
    assert shown == {
        "source": ("FILE", ""),
        "least": ("X", ""),
        "kind": ("plain|fancy", "plain"),
        "places": ("A[,A]", "a,b"),
        "where": ("[URL]", "here"),
        "fast": ("", ""),
        "count": ("N", "0"),
    }
    line = CommandLine("try", "Try it.")
    line.add_fields("group", Example)
    text = line.format_help()
    assert text.startswith("usage: try FILE [FLAG ...]\n")
    assert "at least 5%" in text
    assert "(default: a,b)" in text


def test_values_are_converted_by_the_model() -> None:
    read = read_model(Example, "try", "Try it.", ["f.txt", "--least=0.5", "--fast", "--where"])
    assert read.model_dump(exclude_unset=True) == {
        "source": Path("f.txt"), "least": 0.5, "fast": True, "where": "auto",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: FILE (see --help)"),
        (["f", "--least=-1"], "--least: Input should be greater than or equal to 0; got '-1'"),
        (["f", "--kind=odd"], "--kind: Input should be 'plain' or 'fancy'; got 'odd'"),
        (
            ["f", "--fas"],
            "--fas: unknown; did you mean --fast or --least or --places? (see --help)",
        ),
    ],
)
def test_what_is_wrong_is_said_on_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_model(Example, "try", "Try it.", arguments)
    assert str(caught.value) == message


def test_every_end_has_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    def ending(error: BaseException) -> int:
        def command(_: object) -> None:
            raise error

        return run_command(command, [], "go on")

    assert run_command(lambda _: None, []) == 0
    assert ending(InputError("bad")) == 2
    assert ending(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "error: bad\nerror: interrupted; go on\n"
    assert ending(SystemExit(0)) == 0
    full = OSError(errno.ENOSPC, "No space left on device", "/runs/a")
    assert ending(full) == 4
    assert ending(OSError(errno.ENOSPC, "No space left on device")) == 4
    assert ending(OSError()) == 4
    assert ending(MemoryError()) == 4
    assert capsys.readouterr().err == (
        "error: /runs/a: No space left on device\nerror: No space left on device\n"
        "error: OSError\nerror: there is not enough memory\n"
    )


def test_a_bug_is_one_line_that_names_the_file_with_its_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(_: object) -> None:
        raise KeyError("\x1b[2J\udce4")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run_command(command, []) == 70
    (log,) = tmp_path.iterdir()
    said = capsys.readouterr().err
    assert said.startswith("error: this is a bug: KeyError: ")
    assert said.endswith(f"please report it with {log}\n")
    assert said.count("\n") == 1
    assert "\x1b" not in said
    assert "in command\n" in log.read_text()
    # Where nothing can be written, the line says at least where it happened.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nothing"))
    assert run_command(command, []) == 70
    assert re.search(rf"{re.escape(__file__)}, line \d+$", capsys.readouterr().err.strip())
