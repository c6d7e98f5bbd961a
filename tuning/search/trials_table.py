"""The table of a setting's trials, during the search and at its end."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import get_args

import pyarrow as pa

from results.files import TRIALS
from results.schema import trials_schema
from results.store import write_table
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import steps_in_epoch
from tuning.cluster.context import Context
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord

# Seconds between two versions of the table while a search runs.
TABLE_EVERY = 2.0
# Pause between two runs of a slow task of the driver, as a multiple of the time that one takes.
PAUSE = 20
_ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def write_trials(setting: Setting, records: Sequence[TrialRecord], context: Context) -> None:
    """Write trials.parquet: one row per finished attempt."""
    types = {name: _arrow_type(name) for name in setting.space.parameters}
    images = len(setting.shots.train_labels)
    rows = [
        {
            "number": r.number,
            "root": r.root,
            "origin": r.origin,
            "state": r.state,
            **{name: getattr(r.hyperparameters, name) for name in types},
            "objective": r.objective,
            "accuracy": r.accuracy,
            "epochs": r.epochs,
            "steps": r.epochs * steps_in_epoch(r.hyperparameters, images),
            "seconds": r.seconds,
            "seed": r.seed,
            "node": r.node,
            "error": r.error,
            "restarts": r.restarts,
        }
        for r in records
    ]
    write_table(setting.folder / TRIALS, rows, trials_schema(types), context.provenance)


class TrialsTable:
    """Keeps trials.parquet of a running search nearly up to date, without writing too often."""

    def __init__(self, setting: Setting, context: Context) -> None:
        self._setting, self._context, self._due = setting, context, -math.inf

    def update(self, records: Callable[[], Sequence[TrialRecord]]) -> None:
        """Write the table, unless it was written too recently for the time that this takes."""
        started = time.monotonic()
        if started >= self._due:
            write_trials(self._setting, records(), self._context)
            ended = time.monotonic()
            self._due = ended + max(TABLE_EVERY, PAUSE * (ended - started))


def _arrow_type(name: str) -> pa.DataType:
    annotation = DecropConfig.model_fields[name].annotation
    named = get_args(annotation)  # of a Literal
    return _ARROW_TYPES[type(named[0]) if named else annotation]  # type: ignore[index]
