"""What was certified of a variant, under the names that TensorBoard and trackers show."""

from collections.abc import Iterable

from results.schema import Row, accuracy_column, tabulated, wrong_column

SCORE = "certified/score"


def certified_metrics(radii: Iterable[float]) -> list[str]:
    """The names of what is certified of a variant."""
    at_radii = tabulated(radii)
    return [SCORE, *map(_accuracy, at_radii), *map(_wrong, at_radii)]


def certified_values(row: Row) -> dict[str, float]:
    """What was certified of a variant, by name, from its row of the summary."""
    columns = {SCORE: "score"}
    for at in tabulated(row["radii"]):
        columns |= {_accuracy(at): accuracy_column(at), _wrong(at): wrong_column(at)}
    return {name: row[column] for name, column in columns.items()}


def _accuracy(at: float) -> str:
    return "certified/clean accuracy" if at == 0 else f"certified/accuracy at {at:g}"


def _wrong(at: float) -> str:
    return f"certified/wrong at {at:g}"
