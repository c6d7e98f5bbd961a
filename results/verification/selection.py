"""The way from trials to what was certified: three tables and the summary must agree on it."""

from collections.abc import Iterator
from typing import Any

from results import files
from results.run import Run, Setting
from results.schema import ORIGINS, STATES, Row
from results.verification.differences import differences


def check_selection(run: Run, setting: Setting) -> Iterator[str]:
    """What contradicts itself in trials, confirmation, baselines and summary of a setting."""
    trials = {row["number"]: row for row in setting.trials}
    where = f"{setting.name}/{files.TRIALS}"
    if len(trials) != len(setting.trials):
        yield f"{where}: has more than one row of a number"
    # Of each point of the search, the first attempt at it; the others repeat its values.
    first: dict[int, Row] = {}
    for trial in setting.trials:
        known = first.setdefault(trial["root"], trial)
        yield from _trial_problems(f"{where}, trial {trial['number']}", trial, known, setting)
    if {*first} != {*range(len(first))}:
        yield f"{where}: the roots are not 0 to {len(first) - 1}"
    facts = run.manifest["settings"][setting.name]
    folds = run.config["confirm_folds"]
    scored = {
        "votes": run.config["confirm_votes"],
        "images": folds * len(facts["tuning_indices"]),
    }
    where = f"{setting.name}/{files.CONFIRMATION}"
    for row in setting.confirmation:
        expected = {**scored, "folds": folds, **_of_trial(row, trials.get(row["number"]))}
        yield from differences(f"{where}, trial {row['number']}", row, expected)
    where = f"{setting.name}/{files.BASELINES}"
    highest = max((row["objective"] for row in setting.baselines), default=None)
    chosen = next((row for row in setting.baselines if row["objective"] == highest), None)
    for row in setting.baselines:
        expected = {**scored, "selected": row is chosen}
        yield from differences(f"{where}, sigma {row['sigma']}", row, expected)
    for line in setting.summary:
        where = f"{setting.name}: {line['variant']}: the summary"
        yield from differences(where, line, _of_summary(line["variant"], setting, chosen))


def _trial_problems(where: str, trial: Row, first: Row, setting: Setting) -> Iterator[str]:
    if trial["state"] not in STATES:
        yield f"{where}: state is {trial['state']}"
    if trial["origin"] not in ORIGINS:
        yield f"{where}: origin is {trial['origin']}"
    if trial["state"] == "complete" and trial["objective"] is None:
        yield f"{where}: objective is missing"
    same = {name: first[name] for name in ("origin", *setting.hyperparameters)}
    yield from differences(where, trial, same)


def _of_trial(row: Row, trial: Row | None) -> dict[str, Any]:
    """What follows for a confirmed trial from the table of trials and from its own row."""
    before, unseen = row["search_objective"], row["unseen_objective"]
    gap = None if None in (before, unseen) else before - unseen
    expected = {"optimism_gap": gap, "selected": bool(row["variant"])}
    if "best" in row["variant"].split(", "):
        expected["tied"] = True
    if trial is None:
        return {**expected, "number": "a trial"}
    same = {name: trial[name] for name in ("root", "origin", "sigma") if name in trial}
    return {**expected, **same, "search_objective": trial["objective"]}


def _of_summary(variant: str, setting: Setting, chosen: Row | None) -> dict[str, Any]:
    """What follows for the summary's row of a variant from what was confirmed."""
    if variant == "none":
        found = chosen or {}
        return {
            "origin": "none",
            "trial": None,
            "sigma": found.get("sigma"),
            "tuning_objective": found.get("objective"),
            "tuning_accuracy": found.get("accuracy"),
        }
    rows = [row for row in setting.confirmation if variant in row["variant"].split(", ")]
    row = rows[0] if len(rows) == 1 else {}
    return {
        "origin": row.get("origin"),
        "trial": row.get("number"),
        "sigma": row.get("sigma"),
        "tuning_objective": row.get("confirmed_objective"),
        "tuning_accuracy": row.get("confirmed_accuracy"),
    }
