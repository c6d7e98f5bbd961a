"""A run at any moment: what can be read of it, whether it has ended, and what is missing."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from results import files
from results.digests import FILES
from results.run import Run, Setting, load_run
from results.schema import Row
from results.summary import Candidate, summary_row
from results.verdict import Verdict, judge

# Its numbers are those that certificates must agree with.
_COMPARED = ("images", "sigma", "score", "certified_accuracy_0", "acr", "abstained")


@dataclass(frozen=True)
class Notes:
    """What a reader must know of an unfinished or damaged run.

    `problems` has a line for each file that is left out. `unfinished` says since when nothing has
    changed in a run that has not ended; it is empty if it has.
    """

    problems: list[str] = field(default_factory=list)
    unfinished: str = ""


def read_anyway(folder: Path) -> tuple[Run, dict[str, Verdict], Notes]:
    """A run with what can be read of it, the verdicts by setting, and what is to be said about it.

    Nothing is written, and neither databases nor locks are opened: a run that goes on is not
    disturbed.

    Raises:
        StoreError: if it is not a run folder.
    """
    problems: list[str] = []
    run = load_run(folder, problems)
    settings = [_consistent(folder, setting, problems) for setting in run.settings]
    run = replace(run, settings=settings)
    verdicts: dict[str, Verdict] = {}
    for setting in settings:
        try:
            verdict = judge(setting)
        except ValueError as error:
            problems.append(f"{folder / setting.name / files.CERTIFICATES}: {error}")
        else:
            verdicts |= {} if verdict is None else {setting.name: verdict}
    unfinished = "" if FILES in run.manifest else _last_change(folder, settings)
    return run, verdicts, Notes(problems, unfinished)


def stage(run: Run, setting: Setting, notes: Notes) -> str:
    """How far an unfinished setting is, in a sentence; empty for one that has all of its tables."""
    if setting.summary:
        if not notes.unfinished:
            return ""
        return "What is certified here may be of an earlier start of the run, which goes on."
    if setting.certificates:
        return "Certificates are there, but not yet their summary."
    if setting.confirmation:
        return "The search and the confirmation have ended; certification has not."
    ended = len(setting.trials)
    if not ended:
        return "No trial has ended yet."
    planned = run.config.get("trials")
    asked = f" The run was asked for {planned} points beside the baselines." if planned else ""
    return f"The search goes on, or was interrupted: {ended} trials have ended.{asked}"


def _consistent(folder: Path, setting: Setting, problems: list[str]) -> Setting:
    """The setting without certified results if its summary is not that of its certificates."""
    for row in setting.summary:
        certificates = setting.certificates.get(row["variant"])
        if certificates is None:
            continue
        different = _difference(setting.name, row, certificates)
        if different:
            problems.append(
                f"{folder / files.SUMMARY}: {row['variant']} in {setting.name} is not what "
                f"{files.CERTIFICATES} says: {different}; both are left out"
            )
            return replace(setting, summary=[], certificates={}, classes=[])
    return setting


def _difference(setting: str, row: Row, certificates: Sequence[Row]) -> str:
    candidate = Candidate(row["variant"], row["origin"])
    try:
        found = summary_row(setting, candidate, certificates, row["radii"])
    except ValueError as error:
        return str(error)
    for name in _COMPARED:
        if not math.isclose(found[name], row[name], rel_tol=1e-9, abs_tol=1e-9):
            return f"{name} is {row[name]:.6g}, not {found[name]:.6g}"
    return ""


def _last_change(folder: Path, settings: Sequence[Setting]) -> str:
    """When a file of the run was last written, in words."""
    places = [folder, *(folder / setting.name for setting in settings)]
    written = max(path.stat().st_mtime for place in places for path in _files(place))
    return f"{datetime.fromtimestamp(written, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _files(folder: Path) -> Iterator[Path]:
    # What starts with a point may be gone in a moment.
    names = (path for path in folder.glob("[!.]*") if path.name != files.REPORT)
    yield from (path for path in names if path.is_file())


def manifest_of(run: Run, setting: str) -> Mapping[str, Any]:
    """What the manifest says about a setting; empty if nothing."""
    settings = run.manifest.get("settings")
    entry = settings.get(setting) if isinstance(settings, dict) else None
    return entry if isinstance(entry, dict) else {}
