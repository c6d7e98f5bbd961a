"""Flags whose value is a duration: 90s, 30m or 2h, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator

DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _seconds(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*([smhd]?)", value)
    if match is None:
        raise ValueError(f"{value!r} is not a duration; write for example 90s, 30m or 2h")
    return float(match.group(1)) * DURATION_UNITS[match.group(2) or "s"]


Duration = Annotated[float, BeforeValidator(_seconds)]
