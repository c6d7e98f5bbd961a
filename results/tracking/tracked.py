"""What a tracker is given: one run for each trial, and for each certified variant without one."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from results.metrics import certified_values
from results.run import Run, Setting
from results.schema import Row

# Of a trial, beside its hyperparameters.
_LABELS = ("origin", "state", "node", "error")
_METRICS = ("objective", "accuracy", "epochs", "steps", "seconds")


class Tracked(NamedTuple):
    """A trial, or a variant that no trial has trained.

    `key` is the same whenever the run is given to a tracker. `metrics` has finite numbers only,
    among them what was certified of the trial's variant.
    """

    key: str
    name: str
    setting: str
    labels: Mapping[str, str]
    hyperparameters: Mapping[str, Any]
    metrics: Mapping[str, float]


def tracked(run: Run) -> Iterator[Tracked]:
    """Everything of a run that a tracker is given."""
    for setting in run.settings:
        prefix = f"{identity(run)}-{setting.name}"
        certified = {row["trial"]: row for row in setting.summary if row["trial"] is not None}
        for trial in setting.trials:
            number = trial["number"]
            name = f"{setting.name} {number:03d} {trial['origin']}"
            yield Tracked(
                f"{prefix}-{number}", name, setting.name,
                _labels(trial, certified.get(number)), _hyperparameters(setting, trial),
                _metrics(trial, certified.get(number)),
            )  # fmt: skip
        for row in setting.summary:
            if row["trial"] is None:
                name, sigma = f"{setting.name} {row['variant']}", {"sigma": row["sigma"]}
                labels, metrics = _labels({}, row), _metrics({}, row)
                key = f"{prefix}-{row['variant']}"
                yield Tracked(key, name, setting.name, labels, sigma, metrics)


def identity(run: Run) -> str:
    """What tells a run from all others; its name, for one that has no manifest yet."""
    return str(run.manifest.get("run_id", run.name))


def _labels(trial: Row, certified: Row | None) -> dict[str, str]:
    labels = {name: str(trial[name]) for name in _LABELS if trial.get(name)}
    return labels | ({"variant": certified["variant"]} if certified else {})


def _hyperparameters(setting: Setting, trial: Row) -> dict[str, Any]:
    return {name: trial[name] for name in setting.hyperparameters if trial[name] is not None}


def _metrics(trial: Row, certified: Row | None) -> dict[str, float]:
    found = {name: trial.get(name) for name in _METRICS}
    found |= certified_values(certified) if certified else {}
    return {name: float(v) for name, v in found.items() if v is not None and math.isfinite(v)}
