"""The card of the winning configuration: its values beside the published ones."""

from dataclasses import dataclass
from pathlib import Path

from results import files
from results.report import formats
from results.run import Run, Setting
from results.verdict import Verdict

_COMMENT = "# "


@dataclass(frozen=True)
class Value:
    """A hyperparameter of the winner, and its published value if that is different."""

    name: str
    value: str
    published: str


@dataclass(frozen=True)
class Winner:
    """The winning configuration; `space` is best.yaml, and `command` runs it again, if known."""

    trial: int
    values: list[Value]
    space: str
    command: str


def winner(run: Run, setting: Setting, verdict: Verdict) -> Winner | None:
    """The winner of a search; None if it is no trial, or is not in trials.parquet."""
    rows = {row["number"]: row for row in setting.trials}
    best = rows.get(verdict.best["trial"])
    if best is None:
        return None
    published = next((row for row in setting.trials if row["origin"] == "published"), best)
    values = [
        Value(
            name,
            formats.cell(best[name]),
            formats.cell(published[name]) if published[name] != best[name] else "",
        )
        for name in setting.hyperparameters
    ]
    space = _text(run.folder / setting.name / files.BEST_SPACE)
    commands = [line.removeprefix(_COMMENT) for line in space.splitlines() if "decrop " in line]
    return Winner(best["number"], values, space, commands[0].strip() if commands else "")


def _text(path: Path) -> str:
    """A small text file; empty if there is none, because the page does without it."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
