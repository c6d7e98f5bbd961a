"""What the page shows of one setting."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from results.examples import read_examples
from results.insight import rungs
from results.report import pictures
from results.report.examples import Strip, strips
from results.report.state import Notes, manifest_of, stage
from results.report.trials import trials_table
from results.report.winner import winner
from results.run import Run, Setting
from results.schema import STATES, front_number
from results.sentences import middle
from results.store import StoreError
from results.verdict import Verdict

_QUERIES = ("training", "surrogate_agreement", "confirmation", "certification")


def section(
    run: Run, setting: Setting, verdict: Verdict | None, objective: str, notes: Notes
) -> dict[str, Any]:
    """Everything that the template shows of a setting; `notes` gets what cannot be read."""
    labels = setting.labels
    radii = setting.summary[0]["radii"] if setting.summary else []
    entry = manifest_of(run, setting.name)
    return {
        "setting": setting,
        "id": re.sub(r"\W+", "-", setting.name),
        "verdict": verdict,
        "labels": labels,
        "radii": radii,
        "at": middle(radii),
        "queries": numbers(entry.get("queries"), _QUERIES),
        "front": [row for row in setting.summary if front_number(row["variant"]) is not None],
        "classes": sorted(setting.classes, key=lambda row: row["class"]),
        "stage": stage(run, setting, notes),
        "examples": _examples(run, setting, labels, notes),
        "winner": verdict and winner(run, setting, verdict),
        "trials": trials_table(setting),
        "states": [
            (state, sum(row["state"] == state for row in setting.trials)) for state in STATES
        ],
        "restarted": sum(bool(row["restarts"]) for row in setting.trials),
        "rungs": rungs(setting.trials),
        "figures": pictures.certified(run, setting, labels, middle(radii)),
        "search": pictures.searched(run, setting, objective),
    }


def _examples(run: Run, setting: Setting, labels: Mapping[str, str], notes: Notes) -> list[Strip]:
    if not setting.certificates:
        return []
    try:
        examples = read_examples(run.folder / setting.name)
    except StoreError as error:
        notes.problems.append(str(error))
        return []
    return strips(examples, setting, labels) if examples else []


def numbers(value: Any, names: Sequence[str]) -> dict[str, Any] | None:
    """A mapping from a manifest, if it has numbers for all `names`."""
    known = value if isinstance(value, dict) else {}
    whole = all(isinstance(known.get(name), int | float) for name in names)
    return known if whole else None
