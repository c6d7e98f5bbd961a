"""The reference pages of the documentation, made from the code that they are about."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from results import schema
from trainables.decrop.config import DecropConfig
from tuning.flags import readme_table

TABLES = {
    "summary.parquet": ("a row for each setting and variant", schema.summary_schema()),
    "SETTING/trials.parquet": ("a row for each trial", schema.trials_schema({})),
    "SETTING/confirmation.parquet": ("a row for each confirmed trial", schema.CONFIRMATION),
    "SETTING/baselines.parquet": ("the bare classifier at each sigma", schema.BASELINES),
    "SETTING/certificates.parquet": ("a row for each variant and image", schema.CERTIFICATES),
    "SETTING/classes.parquet": ("a row for each variant and class", schema.classes_schema()),
}
"""The tables of a run folder, each with what its rows are."""


def write(folder: Path) -> None:
    """Write all pages to `folder`; what has not changed is not touched."""
    folder.mkdir(exist_ok=True)
    pages = {"flags": flags(), "hyperparameters": hyperparameters(), "tables": tables()}
    for name, text in pages.items():
        path = folder / f"{name}.md"
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def flags() -> str:
    """Every flag of `decrop launch`."""
    return (
        "# Flags\n\n`decrop launch`, or `python -m tuning.launch`. In a configuration file "
        "(`--config`) and in Python the names are the same, with `_` for `-`.\n\n" + readme_table()
    )


def hyperparameters() -> str:
    """Every hyperparameter of a training, with its range and published value."""
    rows = []
    for name, field in DecropConfig.model_fields.items():
        default = field.default
        shown = f"{default:.4g}" if isinstance(default, float) else str(default)
        rows.append((f"`{name}`", field.description or "", _range(name), shown))
    return (
        "# Hyperparameters\n\nWhat `--set NAME=VALUE` and search spaces know. The defaults are the "
        "published code for CIFAR-10, as it runs.\n\n"
        + _table(("name", "meaning", "range", "default"), rows)
    )


def tables() -> str:
    """Every table of a run folder, with the unit and meaning of each column."""
    parts = [
        "# Tables\n\nParquet files in a run folder. Shares are in [0, 1]; radii and sigma are L2 "
        "on pixels in [0, 1].\n"
    ]
    for name, (rows, columns) in TABLES.items():
        parts.append(f"## {name}\n\n{rows[0].upper()}{rows[1:]}.\n")
        parts.append(_table(("column", "type", "unit", "meaning"), map(_column, columns)))
    return "\n".join(parts)


def _column(field: pa.Field) -> tuple[str, str, str, str]:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    kind = f"{field.type}, or null" if field.nullable else str(field.type)
    return f"`{field.name}`", kind, metadata.get("unit", ""), metadata.get("description", "")


def _range(name: str) -> str:
    """The values that a hyperparameter may have."""
    found = DecropConfig.model_json_schema()["properties"][name]
    if "enum" in found:
        return " or ".join(map(str, found["enum"]))
    if "const" in found:
        return str(found["const"])
    if found.get("type") == "boolean":
        return "true or false"
    low = found.get("minimum", found.get("exclusiveMinimum"))
    high = found.get("maximum", found.get("exclusiveMaximum"))
    if low is None and high is None:
        return ""
    opening = "(" if "exclusiveMinimum" in found else "["
    closing = ")" if "exclusiveMaximum" in found else "]"
    return f"{opening}{low:g}, {high:g}{closing}"


def _table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = [tuple(header), tuple("---" for _ in header), *map(tuple, rows)]
    return "".join(
        "| " + " | ".join(c.replace("|", r"\|") for c in line) + " |\n" for line in lines
    )
