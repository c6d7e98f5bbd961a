"""Logs in Cohen et al.'s format against the certificates that they repeat."""

from collections.abc import Iterator, Mapping, Sequence
from decimal import ROUND_FLOOR, Context, Decimal
from pathlib import Path
from typing import Any

from results import files
from results.schema import Row
from results.store import StoreError, read_cohen_tsv
from results.verification.differences import differences

_MICRO = Decimal("0.000001")
# Enough digits for any double.
_EXACT = Context(prec=400, rounding=ROUND_FLOOR)


def check_logs(folder: Path, groups: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    """What differs in the logs of a setting's `folder`; `groups` are certificates by variant."""
    for variant, rows in groups.items():
        where = f"{folder.name}: {variant}"
        try:
            log = read_cohen_tsv(folder / files.log(variant))
        except StoreError as error:
            yield f"{where}: {error}"
            continue
        if [line.idx for line in log] != [row["image_index"] for row in rows]:
            yield f"{where}: the log in {files.LOGS}/ has different images"
            continue
        for line, row in zip(log, rows, strict=True):
            yield from differences(
                f"{where}, image {line.idx}: the log", line._asdict(), _line(row)
            )
    for path in sorted((folder / files.LOGS).glob("*.tsv")):
        if path.stem not in groups:
            yield f"{folder.name}: {path.stem}: there is a log, but no certificate"


def _line(row: Row) -> dict[str, Any]:
    """The line of a certificate, as `CohenRow`; the radius is rounded down."""
    printed = Decimal(row["radius"]).quantize(_MICRO, context=_EXACT)
    return {
        "label": row["label"],
        "predict": row["predicted"],
        "radius": float(printed),
        "correct": row["predicted"] == row["label"],
        "time": float(f"{row['seconds']:.3f}"),
    }
