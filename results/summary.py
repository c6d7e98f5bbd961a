"""What the certificates of a variant amount to: rows of summary.parquet and classes.parquet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from results.curves import Bools, average_certified_radius, largest_radius
from results.schema import (
    Row,
    accuracy_column,
    classes_schema,
    joint_column,
    summary_schema,
    tabulated,
    wrong_column,
)
from results.score import Answers
from results.store import write_table


@dataclass(frozen=True)
class Candidate:
    """What is certified as `variant`: where it comes from, and its results on the tuning images.

    `origin` is one of `schema.ORIGINS`. `trial` is None for what no trial of a study has trained;
    `objective` and `accuracy` are None if they are not known.
    """

    variant: str
    origin: str
    trial: int | None = None
    objective: float | None = None
    accuracy: float | None = None


def summary_row(
    setting: str, candidate: Candidate, certificates: Sequence[Row], radii: Sequence[float]
) -> dict[str, Any]:
    """A row of `schema.summary_schema` from the certificates of one variant.

    The score is averaged over `radii`.

    Raises:
        ValueError: without certificates or radii, or if sigma, alpha or n0 differ between them.
    """
    answers = Answers.of(certificates)
    acr = average_certified_radius(answers.right(0), answers.radius, largest_radius(certificates))
    score = answers.score(radii)
    most, share, true = answers.most_frequent()
    return {
        "setting": setting,
        "variant": candidate.variant,
        "origin": candidate.origin,
        "trial": candidate.trial,
        "sigma": _single(certificates, "sigma"),
        "tuning_objective": candidate.objective,
        "tuning_accuracy": candidate.accuracy,
        "images": len(certificates),
        "n": max(row["n"] for row in certificates),
        "n0": _single(certificates, "n0"),
        "alpha": _single(certificates, "alpha"),
        "radii": [float(at) for at in radii],
        "score": score.value,
        "score_low": score.low,
        "score_high": score.high,
        "beats_guessing": score.low > 0,
        "most_frequent": most,
        "most_frequent_share": share,
        "most_frequent_true": true,
        **_at_radii(answers, radii),
        "acr": acr.value,
        "acr_low": acr.low,
        "acr_high": acr.high,
        "joint_acr": float(np.mean(answers.jointly_right(0) * answers.joint)),
        "abstained": float(np.mean(answers.predicted == -1)),
        "seconds": float(sum(row["seconds"] for row in certificates)),
    }


def class_rows(
    certificates: Mapping[str, Sequence[Row]], names: Sequence[str], radii: Sequence[float]
) -> list[dict[str, Any]]:
    """Rows of `schema.classes_schema`: a row for each variant and each class of the images.

    `names` are the names of all classes.
    """
    rows = []
    for variant, group in certificates.items():
        answers = Answers.of(group)
        for label in np.unique(answers.label).tolist():
            of_class = answers.label == label
            rows.append(
                {
                    "variant": variant,
                    "class": label,
                    "name": names[label],
                    "images": int(of_class.sum()),
                    "answers": int((answers.predicted == label).sum()),
                    **_at_radii(answers, radii, of_class),
                }
            )
    return rows


def write_summary(
    path: Path, rows: Sequence[Row], metadata: Mapping[str, str] | None = None
) -> None:
    """Write summary.parquet, with columns for the radii that any of its settings names.

    `metadata` and what is raised are as in `store.write_table`.
    """
    schema = summary_schema({at for row in rows for at in row["radii"]})
    # A setting has no columns for radii that only a different one names.
    empty = dict.fromkeys(schema.names)
    write_table(path, [{**empty, **row} for row in rows], schema, metadata)


def write_classes(
    path: Path,
    rows: Sequence[Row],
    radii: Sequence[float],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write classes.parquet from `class_rows` with the same `radii`.

    `metadata` and what is raised are as in `store.write_table`.
    """
    write_table(path, rows, classes_schema(radii), metadata)


def _at_radii(
    answers: Answers, radii: Sequence[float], of: Bools | slice = slice(None)
) -> dict[str, float]:
    """The shares of images that are certified right, wrong and jointly right, of those in `of`."""
    columns = (
        (accuracy_column, answers.right),
        (wrong_column, answers.wrong),
        (joint_column, answers.jointly_right),
    )
    return {
        column(at): float(certified(at)[of].mean())
        for column, certified in columns
        for at in tabulated(radii)
    }


def _single(rows: Sequence[Row], name: str) -> Any:
    values = {row[name] for row in rows}
    if len(values) != 1:
        raise ValueError(f"certificates of one variant must share {name}, got {sorted(values)}")
    return values.pop()
