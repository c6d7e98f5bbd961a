"""Errors that the user can fix, and parts of their messages."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

# Control characters, halves of surrogate pairs (bytes that are not text), and ends of lines.
UNPRINTABLE = {"Cc", "Cs", "Zl", "Zp"}


class UserError(Exception):
    """An error that a command reports in one line, its message, and with an exit code."""

    exit_code = 1


class InputError(UserError, ValueError):
    """Something the user passed cannot be used; the message is one line that says what to do.

    `field` names the parameter at fault, and comes first in the message. Other parameters that the
    `problem` mentions are in backticks, so that a command line can say its flags instead:

        raise InputError("class 'cat' is missing; set `download` to fetch it", field="data_dir")
    """

    exit_code = 2

    def __init__(self, problem: str, field: str | None = None) -> None:
        # It may name files of any name.
        problem = printable(problem)
        super().__init__(problem if field is None else f"{field}: {problem}")
        self.problem, self.field = problem, field


class NonFiniteLoss(ArithmeticError):
    """A loss term became NaN or infinite; the message names it."""


def printable(text: str) -> str:
    """`text` on one line, with escapes in place of what a terminal or a file must not get."""
    return "".join(ascii(c)[1:-1] if unicodedata.category(c) in UNPRINTABLE else c for c in text)


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: similar names, or else the first known ones."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known are {', '.join(known[:9])}{', ...' if len(known) > 9 else ''}"


def describe_error(error: BaseException) -> str:
    """The kind of `error` and the first line of its message."""
    # Backticks would be read as names of parameters.
    lines = str(error).strip().replace("`", "'").splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
