"""The summary, and the certificates by class, recomputed from the certificates."""

from collections.abc import Iterator, Mapping, Sequence

from results import files
from results.run import Setting
from results.schema import Row
from results.summary import Candidate, class_rows, summary_row
from results.verification.differences import differences


def check_summary(
    setting: Setting, groups: Mapping[str, Sequence[Row]], radii: Sequence[float]
) -> Iterator[str]:
    """Columns of the summary that do not follow from the certificates, which are by variant.

    `radii` are those of the score.
    """
    lines = {line["variant"]: line for line in setting.summary}
    if len(lines) != len(setting.summary):
        yield f"{files.SUMMARY}: has more than one row of a variant of {setting.name}"
    for variant in sorted({*lines, *groups}):
        where = f"{setting.name}: {variant}: the summary"
        if variant not in lines:
            yield f"{where} has no row of it, but there are certificates"
        elif variant not in groups:
            yield f"{where} has a row of it, but there are no certificates"
        else:
            line = lines[variant]
            candidate = Candidate(
                variant,
                line["origin"],
                line["trial"],
                line["tuning_objective"],
                line["tuning_accuracy"],
            )
            try:
                expected = summary_row(setting.name, candidate, groups[variant], radii)
            except ValueError as error:
                yield f"{where} does not follow from the certificates: {error}"
                continue
            # A column for a radius that only a different setting names is empty.
            yield from differences(where, line, dict.fromkeys(line) | expected)


def check_classes(
    setting: Setting,
    groups: Mapping[str, Sequence[Row]],
    class_names: Sequence[str],
    radii: Sequence[float],
) -> Iterator[str]:
    """Rows by class that do not follow from the certificates, which are by variant."""
    table = f"{setting.name}/{files.CLASSES}"
    found = {(row["variant"], row["class"]): row for row in setting.classes}
    if len(found) != len(setting.classes):
        yield f"{table}: has more than one row of a class"
    named = dict(enumerate(class_names))
    highest = max(row["label"] for rows in groups.values() for row in rows)
    names = [named.get(label, "") for label in range(highest + 1)]
    rows = class_rows(groups, names, radii)
    expected = {(row["variant"], row["class"]): row for row in rows}
    for key in sorted({*found, *expected}):
        where = f"{table}: {key[0]}, class {key[1]}"
        if key not in expected:
            yield f"{where}: has a row, but no image is of it"
        elif key not in found:
            yield f"{where}: has no row"
        else:
            yield from differences(where, found[key], expected[key])
