"""What a command line makes of an error: the flag where the library names its parameter."""

import pickle

import pytest

from trainables.command import run_command, with_flags
from trainables.errors import InputError, describe_error, printable


def test_an_input_error_names_the_parameter() -> None:
    error = InputError("there is none; set `download`", field="data_dir")
    assert str(error) == "data_dir: there is none; set `download`"
    assert (error.field, error.problem) == ("data_dir", "there is none; set `download`")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("set `download` or `data_dir`", field="feature_layer"),
         "--feature-layer: set --download or --data-dir"),
        (InputError("/a/b holds `n0`, and `not this`"), "/a/b holds --n0, and `not this`"),
        (ValueError("`download`"), "`download`"),
    ],
)  # fmt: skip
def test_a_command_line_names_flags(error: Exception, line: str) -> None:
    assert with_flags(error) == line


def test_the_field_survives_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(InputError("no", field="feature_layer")))
    assert (str(error), with_flags(error)) == ("feature_layer: no", "--feature-layer: no")


def test_what_a_stranger_says_is_not_taken_for_a_parameter() -> None:
    text = describe_error(ValueError("`weight` has 3 rows"))
    assert with_flags(InputError(text)) == "ValueError: 'weight' has 3 rows"


def test_a_command_that_fails_says_so_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> None:
        raise InputError("is a folder; pass `overwrite`", field="out_file")

    assert run_command(fail, []) == 2
    assert capsys.readouterr() == ("", "error: --out-file: is a folder; pass --overwrite\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("caf\u00e9 \u732b \u200c \u00a0 {n} [red]", "caf\u00e9 \u732b \u200c \u00a0 {n} [red]"),
        ("a\nb\t\x1b[31m\x9b\x7f", r"a\nb\t\x1b[31m\x9b\x7f"),
        ("\udcff\u2028\u2029", r"\udcff\u2028\u2029"),
    ],
)
def test_what_a_terminal_must_not_get_is_escaped(text: str, shown: str) -> None:
    assert printable(text) == shown
    error = InputError(f"{text} is no image", field="data_dir")
    assert (str(error), error.problem) == (f"data_dir: {shown} is no image", f"{shown} is no image")
