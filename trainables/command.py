"""How every command line ends: an exit code, and one line on standard error if it fails."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence

import typer

from trainables.errors import UserError

INTERRUPTED = 130


def run_command(
    app: typer.Typer, arguments: Sequence[str] | None, interrupted: str | None = None
) -> int:
    """Run the one command of `app` on `arguments`, those of the process if None; its exit code.

    `interrupted` is what Ctrl-C says; None says nothing.
    """
    # A shell that starts a command in the background makes it ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    given = sys.argv[1:] if arguments is None else arguments
    try:
        code = app(given, standalone_mode=False)
    except typer.TyperException as error:
        return _fail(_usage(error), 2)
    except UserError as error:
        return _fail(str(error), error.exit_code)
    # Typer turns Ctrl-C into this code.
    if code != INTERRUPTED:
        return 0
    if interrupted is None:
        return INTERRUPTED
    return _fail(f"interrupted; {interrupted}", INTERRUPTED)


def _fail(message: str, code: int) -> int:
    print(f"error: {message}", file=sys.stderr)
    return code


def _usage(error: typer.TyperException) -> str:
    parameter = getattr(error, "param", None)
    if isinstance(error, typer.BadParameter) and parameter is not None and parameter.opts:
        return f"{parameter.opts[0]}: {error.message}"
    return " ".join(f"{error.format_message()} (see --help)".split())
