"""Optional libraries, imported only by the kinds of classifiers that need them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from trainables.errors import InputError


def optional(library: str, extra: str, kind: str) -> Any:
    """The module `library`; `extra` is this project's extra that installs it.

    `kind` says what needs it, for example "timm:NAME".

    Raises:
        InputError: when it is not installed.
    """
    try:
        return import_module(library)
    except ImportError as error:
        raise InputError(
            f"{kind} needs {error.name or library}, which is not installed; run: "
            f"pip install 'decrop-tuning[{extra}]'",
            field="classifier",
        ) from error
