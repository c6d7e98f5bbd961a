"""Several settings of a run at a glance."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from results.figures.settings import against_shots, heat_map
from results.report.pictures import Drawing, Picture
from results.schema import CERTIFIED, accuracy_column, variant_label
from results.sentences import middle

_SHOTS = re.compile(r"(.+)-([\d.]+)(shot|pct)")


def overview(sections: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """Certified accuracy by setting and variant, and against the shots of each data set."""
    summaries = {s["setting"].name: s["setting"].summary for s in sections if s["setting"].summary}
    if len(summaries) < 2:
        return []
    at = middle(sorted({radius for rows in summaries.values() for radius in rows[0]["radii"]}))
    cells = {
        name: {row["variant"]: row[accuracy_column(at)] for row in rows}
        for name, rows in summaries.items()
        if all(row.get(accuracy_column(at)) is not None for row in rows)
    }
    labels = {
        name: variant_label(name, "search" if name == "best" else "none")
        for name in CERTIFIED
        if any(name in shares for shares in cells.values())
    } | {"best": "Best"}
    draw = Drawing("overview")
    pictures = [
        draw(
            heat_map, cells, {name: label.replace(", ", ",\n") for name, label in labels.items()},
            text=f"Certified accuracy at {at:g} by setting and variant",
            caption=f"Certified accuracy at radius {at:g}, by setting and variant.",
        )
    ]  # fmt: skip
    for (dataset, unit), by_shots in _by_dataset(summaries).items():
        if len(by_shots) > 1:
            what = "images per class" if unit == "shot" else "% of the training images"
            pictures.append(
                Drawing(f"overview-{dataset}-{unit}")(
                    against_shots, by_shots, labels, at,
                    text=f"Certified accuracy at {at:g} on {dataset} against the shots",
                    caption=f"{dataset}: certified accuracy at radius {at:g} against the shots "
                    f"({what}), with 95 % intervals.",
                )
            )  # fmt: skip
    return pictures


def _by_dataset(summaries: Mapping[str, Any]) -> dict[tuple[str, str], dict[float, Any]]:
    found: dict[tuple[str, str], dict[float, Any]] = {}
    for name, rows in summaries.items():
        if match := _SHOTS.fullmatch(name):
            found.setdefault((match[1], match[3]), {})[float(match[2])] = rows
    return found
