"""Flags whose value is a list, separated by commas."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from trainables.data.shots import ShotCount


def _parts(value: object) -> object:
    if isinstance(value, str | int | float):
        return tuple(part.strip() for part in str(value).split(","))
    return value


def _texts(value: object) -> object:
    parts = _parts(value)
    return tuple(str(part) for part in parts) if isinstance(parts, list | tuple) else parts


def _lines(value: object) -> object:
    """The lines of a text file that `value` names; any other value as it is."""
    if not (isinstance(value, str) and value.endswith(".txt")):
        return value
    try:
        return tuple(line.strip() for line in Path(value).read_text().splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{value} cannot be read as text") from error


def _shot_count(value: object) -> object:
    return ShotCount(value) if isinstance(value, str) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(_parts)]
Names = Annotated[tuple[str, ...], BeforeValidator(_texts)]
# For names that are too many, or hold commas: one in a line of a FILE.txt.
NamesOrFile = Annotated[Names, BeforeValidator(_lines)]
# Written to YAML as they were passed.
Shots = Annotated[ShotCount, BeforeValidator(_shot_count), PlainSerializer(str)]
ShotCounts = Annotated[tuple[Shots, ...], BeforeValidator(_texts)]
