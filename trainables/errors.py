"""Errors that the user can mend, and what their messages are made of."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """An end for which the user gets one line, the message, and an exit code."""

    exit_code = 1


class InputError(UserError, ValueError):
    """Something the user passed cannot be used; the message is one line that says what to do."""

    exit_code = 2


class NonFiniteLoss(ArithmeticError):
    """A loss term became NaN or infinite; the message names it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown `name`: what it is like, or all there are."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    return f"; known are {', '.join(known[:9])}{', ...' if len(known) > 9 else ''}"


def describe_error(error: BaseException) -> str:
    """What `error` is, on one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
