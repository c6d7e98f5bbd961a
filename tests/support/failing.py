"""Commands that fail as they should: in one line."""

from collections.abc import Callable, Sequence

import pytest


def fails(
    main: Callable[[Sequence[str]], int], capsys: pytest.CaptureFixture[str], *arguments: object
) -> str:
    """What the command line says on standard error; it must be bad input."""
    assert main([str(argument) for argument in arguments]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    return message
