"""How a row differs from what it should be."""

from collections.abc import Iterator, Mapping
from typing import Any

# How far recomputed numbers may be off: SciPy rounds differently from version to version.
CLOSE = 1e-9


def differences(where: str, row: Mapping[str, Any], expected: Mapping[str, Any]) -> Iterator[str]:
    """A line for each value of `row` that is not as `expected`; `where` says where the row is."""
    for name, value in expected.items():
        found = row.get(name)
        both = isinstance(value, float) and isinstance(found, float)
        if found != value and not (both and abs(value - found) <= CLOSE):
            yield f"{where}: {name} is {found}, but should be {value}"
