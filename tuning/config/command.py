"""Command lines that users can copy."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from trainables.command import flag
from tuning.config.run_config import RunConfig


def command_of(config: RunConfig) -> str:
    """The command that makes this configuration: `decrop launch` with the flags that differ.

    For example `decrop launch --shots 5,10 --name first`.
    """
    content = config.model_dump(mode="json")
    passed = ["decrop", "launch"]
    for name, field in RunConfig.model_fields.items():
        default = field.get_default(call_default_factory=True, validated_data={})
        if content[name] is not None and getattr(config, name) != default:
            passed += _passed(name, content[name])
    return shlex.join(passed)


def python_command(*arguments: object) -> str:
    """A command for this Python: by name if it is the one that `python` finds, or by its path."""
    python = "python" if shutil.which("python") == sys.executable else sys.executable
    return shlex.join([python, *map(str, arguments)])


def _passed(name: str, value: Any) -> Iterator[str]:
    """A flag with its value; a mapping is passed entry by entry."""
    if value is True:
        yield flag(name)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from (flag(name), f"{key}={_text(item)}")
    else:
        values = value if isinstance(value, list) else [value]
        yield from (flag(name), ",".join(map(_text, values)))


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
