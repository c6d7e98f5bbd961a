"""Flags whose value is a list, separated by commas."""

from __future__ import annotations

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


def _shot_count(value: object) -> object:
    return ShotCount(value) if isinstance(value, str) else value


Numbers = Annotated[tuple[float, ...], BeforeValidator(_parts)]
Names = Annotated[tuple[str, ...], BeforeValidator(_texts)]
# Written to YAML as they were passed.
Shots = Annotated[ShotCount, BeforeValidator(_shot_count), PlainSerializer(str)]
ShotCounts = Annotated[tuple[Shots, ...], BeforeValidator(_texts)]
