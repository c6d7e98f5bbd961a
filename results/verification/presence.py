"""What a setting must have: its tables, its variants, and numbers where numbers belong."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from results import files
from results.run import Setting
from results.schema import VARIANTS, Row


def missing_tables(folder: Path, searched: bool) -> Iterator[str]:
    """Files that are missing in the folder of a setting; one that was `searched` has more."""
    names = [files.CERTIFICATES, files.CLASSES, files.VOTES]
    names += [files.TRIALS, files.CONFIRMATION, files.BASELINES] if searched else []
    for name in names:
        if not (folder / name).is_file():
            yield f"{folder.name}/{name}: is missing"


def missing_variants(setting: Setting) -> Iterator[str]:
    """Variants that every search ends with, but of which the summary has no row."""
    there = {row["variant"] for row in setting.summary}
    for variant in VARIANTS:
        if variant not in there:
            yield f"{files.SUMMARY}: has no row of {setting.name}: {variant}"


def not_finite(setting: Setting, groups: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """Values in a setting's tables that are NaN or infinite; `groups` are all certificates."""
    tables = {
        files.TRIALS: setting.trials,
        files.CONFIRMATION: setting.confirmation,
        files.BASELINES: setting.baselines,
        files.CLASSES: setting.classes,
        files.SUMMARY: setting.summary,
        **{f"{files.CERTIFICATES}, {variant}": rows for variant, rows in groups.items()},
    }
    for table, rows in tables.items():
        for number, row in enumerate(rows):
            for name, value in row.items():
                parts = value if isinstance(value, list) else (value,)
                if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
                    yield f"{setting.name}/{table}, row {number}: {name} is {value}"
