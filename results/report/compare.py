"""Several runs side by side on one page: what their winners certify on the same images."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from results.comparison import Comparison, compare
from results.figures.runs import curves_of_runs, incumbents
from results.report import formats
from results.report.page import environment
from results.report.pictures import Drawing, Picture
from results.report.state import Notes, manifest_of, read_anyway
from results.run import Run, Setting
from results.schema import Row
from results.store import write_text
from results.terminal import objective_label
from results.verdict import Verdict

# Where a run was computed and written does not make it a different one.
_NOT_COMPARED = {"name", "out", "cluster", "storage", "concurrency"}
_FACTS = ("image_shape", "class_names", "test_images_hash")


@dataclass(frozen=True)
class Entry:
    """A setting of one of the runs, with its verdict; `name` tells it from the others."""

    name: str
    run: Run
    setting: Setting
    verdict: Verdict

    @property
    def best(self) -> Sequence[Row]:
        """The certificates of the winner."""
        return self.setting.certificates["best"]


@dataclass(frozen=True)
class Group:
    """Entries that are comparable; differences are from the first one."""

    name: str
    entries: Sequence[Entry]
    differences: Sequence[Comparison]
    figures: Sequence[Picture]


def write_comparison(folders: Sequence[Path], out: Path) -> tuple[Path, list[str]]:
    """Write a page that compares runs; returns its path and a line for each file left out.

    Settings of the same name are compared; if each run has only one, these are, whatever they are
    called.

    Raises:
        StoreError: if one is not a run folder.
        ValueError: if a run has nothing to compare, or the winners were certified on different
            images or in different ways.
        OSError: if the page cannot be written.
    """
    runs = [read_anyway(folder) for folder in folders]
    names = _names(folders)
    groups = [_group(name, entries) for name, entries in _matched(names, runs).items()]
    problems = [problem for _, _, notes in runs for problem in notes.problems]
    page = environment().get_template("compare.html.j2").render(
        runs=[(name, run, notes) for name, (run, _, notes) in zip(names, runs, strict=True)],
        groups=groups,
        problems=problems,
        names=names,
        configurations=list(_differing([run.config for run, _, _ in runs])),
        winners={group.name: list(_differing(_winners(group))) for group in groups},
    )  # fmt: skip
    write_text(out, page)
    return out, problems


def _names(folders: Sequence[Path]) -> list[str]:
    """The names of the runs, with as much of their paths as tells them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(path[-length:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"{folders[0]}: is named twice; name different runs")


def _matched(
    names: Sequence[str], runs: Sequence[tuple[Run, Mapping[str, Verdict], Notes]]
) -> dict[str, list[Entry]]:
    """The entries of each setting that is compared."""
    found: dict[str, list[Entry]] = {}
    for name, (run, verdicts, _) in zip(names, runs, strict=True):
        if not verdicts:
            raise ValueError(f"{run.folder}: has no certified winner to compare")
        for setting in run.settings:
            if setting.name in verdicts:
                entry = Entry(name, run, setting, verdicts[setting.name])
                found.setdefault(setting.name, []).append(entry)
    shared = {setting: entries for setting, entries in found.items() if len(entries) > 1}
    if shared:
        return shared
    if all(len(verdicts) == 1 for _, verdicts, _ in runs):
        entries = [entry for group in found.values() for entry in group]
        return {" and ".join(found): entries}
    raise ValueError(f"{runs[0][0].folder}: the runs have no setting in common to compare")


def _group(name: str, entries: Sequence[Entry]) -> Group:
    for a, b in combinations(entries, 2):
        if different := _difference(a, b):
            raise ValueError(f"{b.run.folder}: {different}: not comparable")
    first, *others = entries
    radii = first.verdict.best["radii"]
    objective = objective_label(str(first.run.config.get("objective", "objective")))
    draw = Drawing(name)
    figures = [
        draw(
            curves_of_runs,
            {entry.name: entry.best for entry in entries},
            text="Certified accuracy against radius, one line per run",
            caption="What the winner of each run certifies. Bands: 95 % intervals.",
        ),
        draw(
            incumbents,
            *({entry.name: entry.setting.trials for entry in entries}, objective),
            text="Best score so far by trial, one line per run",
            caption="The best score so far on each run's own tuning images.",
        ),
    ]
    differences = [compare(entry.best, first.name, first.best, radii) for entry in others]
    return Group(name, entries, differences, figures)


def _difference(a: Entry, b: Entry) -> str:
    """Why the certificates of two winners cannot be compared; empty if they can."""
    for name in ("alpha", "n0", "procedure", "n"):
        mine, other = ({row[name] for row in entry.best} for entry in (a, b))
        # Other procedures choose the number of votes for each image.
        if name == "n" and "fixed" not in {row["procedure"] for row in a.best}:
            mine, other = ({entry.run.config.get("n")} for entry in (a, b))
        if mine != other:
            return f"{name} is {_listed(other)}, but {_listed(mine)} in {a.run.folder}"
    if a.verdict.best["radii"] != b.verdict.best["radii"]:
        return f"its radii are not those of {a.run.folder}"
    images = [{row["image_index"]: row["label"] for row in entry.best} for entry in (a, b)]
    known = [manifest_of(entry.run, entry.setting.name) for entry in (a, b)]
    facts = [tuple(entry.get(name) for name in _FACTS) for entry in known]
    if images[0] != images[1] or facts[0] != facts[1]:
        return f"its test images are not those of {a.run.folder}"
    return ""


def _listed(values: set[Any]) -> str:
    return ", ".join(sorted(map(str, values)))


def _winners(group: Group) -> list[dict[str, Any]]:
    """The hyperparameters of the winners."""
    found = []
    for entry in group.entries:
        rows = {row["number"]: row for row in entry.setting.trials}
        row = rows.get(entry.verdict.best["trial"], {})
        found.append({name: row.get(name) for name in entry.setting.hyperparameters})
    return found


def _differing(mappings: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Names whose values are not the same in all mappings, with the values."""
    for name in dict.fromkeys(name for mapping in mappings for name in mapping):
        values = [mapping.get(name) for mapping in mappings]
        if name not in _NOT_COMPARED and any(value != values[0] for value in values):
            yield name, [_shown(value) for value in values]


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else formats.cell(value)
