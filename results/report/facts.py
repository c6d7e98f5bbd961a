"""What the page says of the run as a whole: its cost, images, classifier and command."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from results.report.state import manifest_of
from results.run import Run

PHASES = ("search", "confirmation", "training", "certification")


@dataclass(frozen=True)
class Cost:
    """What a phase of a setting took: seconds on the clock, and of workers where they are known."""

    setting: str
    phase: str
    seconds: float
    worked: float | None
    utilisation: float | None

    @property
    def hours(self) -> float | None:
        """Device-hours: the hours that workers computed."""
        return None if self.worked is None else self.worked / 3600


def costs(run: Run) -> list[Cost]:
    """The cost of each phase of each setting, as far as the manifest and the tables say.

    Settings are searched side by side, and the phases of a setting overlap: the seconds on the
    clock do not add up to those of the run.
    """
    workers = _number(run.manifest.get("workers")) or 0.0
    # Of a search, all settings share the workers.
    searched = sum(row["seconds"] or 0.0 for s in run.settings for row in s.trials)
    longest = max((_seconds(run, s.name).get("search", 0.0) for s in run.settings), default=0.0)
    found = []
    for setting in run.settings:
        worked = {
            "search": sum(row["seconds"] or 0.0 for row in setting.trials),
            "certification": sum(row["seconds"] for row in setting.summary),
        }
        for phase, seconds in _seconds(run, setting.name).items():
            busy = None
            if phase == "search" and workers and longest:
                busy = searched / (workers * longest)
                # An earlier start had more workers.
                busy = busy if busy <= 1 else None
            found.append(Cost(setting.name, phase, seconds, worked.get(phase) or None, busy))
    return found


def images(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """What is known of the images of each setting, as names and values."""
    return [(s.name, found) for s in run.settings if (found := _images(run, s.name))]


def _images(run: Run, setting: str) -> list[tuple[str, str]]:
    entry = manifest_of(run, setting)
    shape, names = entry.get("image_shape"), entry.get("class_names")
    found = []
    if isinstance(shape, list) and len(shape) == 3:
        found.append(("images", f"{shape[1]} x {shape[2]} pixels, {_channels(shape[0])}"))
    if isinstance(names, list) and names:
        shown = ", ".join(map(str, names[:20]))
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        found.append((f"{len(names)} classes", shown + more))
    for name, key in (
        ("images to train denoisers", "training_indices"),
        ("images to choose hyperparameters", "tuning_indices"),
        ("images that are certified, which no trial saw", "test_indices"),
    ):
        if isinstance(entry.get(key), list):
            found.append((name, f"{len(entry[key]):,}"))
    notes = entry.get("data_notes")
    found += [("note", str(note)) for note in notes] if isinstance(notes, list) else []
    return found


def classifier(run: Run) -> list[tuple[str, str]]:
    """What is known of the frozen classifier, as names and values."""
    config = run.config
    spec = config.get("classifier")
    default = "the one that is trained once for the data set, and cached" if config else ""
    found = [("classifier", str(spec or default)), ("access", str(config.get("access", "")))]
    found += [("weights", str(config["weights"]))] if config.get("weights") else []
    for setting in run.settings:
        entry = manifest_of(run, setting.name)
        network = entry.get("network")
        if isinstance(network, dict):
            size = _number(network.get("parameters")) or 0
            named = f"{network.get('name', '')}, {size:,.0f} parameters"
            found.append((f"network ({setting.name})", named))
        if entry.get("classifier_hash"):
            found.append((f"hash ({setting.name})", str(entry["classifier_hash"])))
    return [(name, value) for name, value in found if value]


def command(run: Run) -> str:
    """The command that makes such a run, if the manifest has it."""
    found = run.manifest.get("command")
    return found if isinstance(found, str) else ""


def certificate(run: Run) -> dict[str, Any] | None:
    """The numbers of the certificates; None if there are none."""
    rows = [row for setting in run.settings for row in setting.summary]
    if not rows:
        return None
    alpha, count = max(row["alpha"] for row in rows), max(row["images"] for row in rows)
    return {
        "alpha": alpha,
        "images": count,
        "wrong": alpha * count,
        "n0": rows[0]["n0"],
        "n": max(row["n"] for row in rows),
    }


def _seconds(run: Run, setting: str) -> dict[str, float]:
    seconds = manifest_of(run, setting).get("seconds")
    known: Mapping[str, Any] = seconds if isinstance(seconds, dict) else {}
    values = {phase: _number(known.get(phase)) for phase in PHASES}
    return {phase: value for phase, value in values.items() if value is not None}


def _number(value: Any) -> float | None:
    right = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if right else None


def _channels(count: Any) -> str:
    return {1: "grey", 3: "colour"}.get(count, f"{count} channels")
