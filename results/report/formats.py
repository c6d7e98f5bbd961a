"""How numbers and texts are shown in a page: the filters of its templates."""

from collections.abc import Iterator, Mapping
from typing import Any

_MINUS = "\N{MINUS SIGN}"


def number(value: float | None) -> str:
    """A number with three digits after the point."""
    return "" if value is None else f"{value:z.3f}".replace("-", _MINUS)


def signed(value: float) -> str:
    """A difference with its sign."""
    return f"{value:+z.3f}".replace("-", _MINUS)


def percent(value: float) -> str:
    """A share in percent."""
    return f"{value:.1%}"


def duration(seconds: float | None) -> str:
    """A time in the units that fit it."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def cell(value: object) -> str:
    """A value of a table or of a configuration."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flatten(value: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of nested mappings; names are joined by points."""
    for key, item in value.items():
        name = f"{prefix}{key}"
        if isinstance(item, Mapping) and item:
            yield from flatten(item, f"{name}.")
        elif isinstance(item, list):
            yield name, ", ".join(str(part) for part in item) or "none"
        else:
            yield name, cell(item)
