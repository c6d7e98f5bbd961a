"""What a user really passed on a command line."""

from __future__ import annotations

from typing import Any

import typer


def passed(context: typer.Context) -> dict[str, Any]:
    """The flags that are not defaults, by field name."""
    return {
        name.rstrip("_"): value
        for name, value in context.params.items()
        if (source := context.get_parameter_source(name)) is not None
        and source.name == "COMMANDLINE"
    }
