"""The verdict on a run folder: everything in it that is missing, or does not follow."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from results import files
from results.digests import changed_files
from results.run import Run, Setting, load_run
from results.schema import CERTIFICATES, Row
from results.store import StoreError, read_table
from results.verification.bounds import check_bounds
from results.verification.facts import check_facts, check_metadata, check_rows, check_run
from results.verification.logs import check_logs
from results.verification.presence import missing_tables, missing_variants, not_finite
from results.verification.selection import check_selection
from results.verification.tables import check_classes, check_summary
from results.verification.votes import Replay, VoteCheck

# What only the manifest of a run with a search says about a setting.
_SEARCHED = "space"


def verify(folder: Path, replay: Replay | None = None) -> tuple[int, list[str]]:
    """The number of certificates of a run, and a line for everything that is wrong with it.

    `replay` follows a procedure on recorded votes; without it, whether a certificate has as many
    votes as its procedure asks for is not known.

    Raises:
        StoreError: if there is no run in the folder.
    """
    try:
        # What has changed is listed below.
        run = load_run(folder, changed=True)
    except StoreError as error:
        if not (folder / files.MANIFEST).is_file():
            raise
        return 0, [str(error)]
    certificates = {setting.name: _certificates(run, setting) for setting in run.settings}
    count = sum(len(rows) for groups in certificates.values() for rows in groups.values())
    # Everything else rests on these.
    wrong = list(check_run(run)) or [
        line
        for setting in run.settings
        for line in _check_setting(run, setting, certificates[setting.name], replay)
    ]
    return count, [*wrong, *changed_files(folder, run.manifest)]


def _certificates(run: Run, setting: Setting) -> dict[str, list[Row]]:
    """Certificates by variant, in order of the images; the others are in a table of their own."""
    groups: dict[str, list[Row]] = {}
    for name in (files.CERTIFICATES, files.FRONT):
        path = run.folder / setting.name / name
        for row in read_table(path, CERTIFICATES) if path.exists() else ():
            groups.setdefault(row["variant"], []).append(row)
    return {name: sorted(rows, key=lambda row: row["image_index"]) for name, rows in groups.items()}


def _check_setting(
    run: Run, setting: Setting, groups: Mapping[str, Sequence[Row]], replay: Replay | None
) -> list[str]:
    """What is wrong in a setting; where other things rest on it, nothing more is looked for."""
    searched = _SEARCHED in run.manifest["settings"][setting.name]
    return (
        [
            *missing_tables(run.folder / setting.name, searched),
            *(missing_variants(setting) if searched else ()),
            *check_facts(run, setting.name, searched),
            *not_finite(setting, groups),
        ]
        or list(check_metadata(run, setting, list(groups)))
        or list(check_rows(run, setting, groups))
        or list(_check_contents(run, setting, groups, replay))
    )


def _check_contents(
    run: Run, setting: Setting, groups: Mapping[str, Sequence[Row]], replay: Replay | None
) -> Iterator[str]:
    facts = run.manifest["settings"][setting.name]
    for variant, rows in groups.items():
        for row, problem in check_bounds(rows, run.config, setting.metadata):
            yield f"{setting.name}: {variant}, image {row['image_index']}: {problem}"
    yield from VoteCheck(run, setting, replay).problems(groups)
    yield from check_logs(run.folder / setting.name, groups)
    yield from check_summary(setting, groups, facts["radii"])
    yield from check_classes(setting, groups, facts["class_names"], facts["radii"])
    if _SEARCHED in facts:
        yield from check_selection(run, setting)
