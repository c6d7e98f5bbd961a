"""The exported classifier of a setting: what a user deploys."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args

import pyarrow as pa
import torch
from torch import nn

from results import files
from results.schema import trials_schema
from results.store import write_bytes, write_table, write_text
from search_spaces import SearchSpace
from trainables.acceleration.voting import Precision
from trainables.black_box.queries import BlackBox
from trainables.decrop.config import DecropConfig
from trainables.smoothing.noise import Noise
from trainables.smoothing.smoothed import CONFIG, export_config
from trainables.weights.denoiser_file import WEIGHTS, denoiser_bytes
from tuning.cluster.context import Context
from tuning.confirmation.final import Finalist
from tuning.monitoring.tensorboard import StudyBoard
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord

# Seconds between two versions of the trials table while a search runs.
TABLE_EVERY = 2.0
# What takes the driver long is done so many times as long apart.
PAUSE = 20
_ARROW_TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
# Tuning images on which TensorBoard shows the best denoiser.
SHOWN = 8


def export(
    setting: Setting, best: Finalist, classifier: nn.Module, precision: Precision, context: Context
) -> None:
    """Write smoothed_classifier/: the winner's weights and everything that deploying it needs."""
    assert best.denoiser is not None
    # Users load the export with the classifier itself, not with what hid its gradients.
    open_box = classifier.network if isinstance(classifier, BlackBox) else classifier
    sigma = best.confirmed.sigma
    text = export_config(
        open_box,
        setting.shots.tuning_images[0],
        len(setting.dataset.classes),
        Noise(sigma, setting.pixel_steps),
        context.config.certificates,
        precision,
    )
    folder = setting.folder / files.EXPORT
    write_bytes(folder / WEIGHTS, denoiser_bytes(best.denoiser, sigma))
    write_text(folder / CONFIG, text)


def show_denoised(setting: Setting, best: Finalist, board: StudyBoard, seed: int) -> None:
    """Show in TensorBoard what the winner does to a few noisy tuning images."""
    assert best.denoiser is not None
    clean = setting.shots.tuning_images[:SHOWN]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    noisy = clean + best.confirmed.sigma * noise
    with torch.inference_mode():
        board.denoised(clean, noisy, best.denoiser(noisy))


def write_trials(folder: Path, space: SearchSpace, records: Sequence[TrialRecord]) -> None:
    """Write trials.parquet: one row per finished attempt."""
    types = {name: _arrow_type(name) for name in space.parameters}
    rows = [
        {
            "number": r.number,
            "root": r.root,
            "origin": r.origin,
            "state": r.state,
            **{name: r.hyperparameters.get(name) for name in types},
            "objective": r.objective,
            "accuracy": r.accuracy,
            "epochs": r.epochs,
            "seconds": r.seconds,
            "seed": r.seed,
            "node": r.node,
            "error": r.error,
            "restarts": r.restarts,
        }
        for r in records
    ]
    write_table(folder / files.TRIALS, rows, trials_schema(types))


class TrialsTable:
    """Keeps trials.parquet of a running search nearly up to date, without writing all the time."""

    def __init__(self, folder: Path, space: SearchSpace) -> None:
        self._folder, self._space, self._due = folder, space, -math.inf

    def update(self, records: Callable[[], Sequence[TrialRecord]]) -> None:
        """Write the table, unless that was done a moment ago, or takes long and was done lately."""
        started = time.monotonic()
        if started >= self._due:
            write_trials(self._folder, self._space, records())
            ended = time.monotonic()
            self._due = ended + max(TABLE_EVERY, PAUSE * (ended - started))


def _arrow_type(name: str) -> pa.DataType:
    annotation = DecropConfig.model_fields[name].annotation
    named = get_args(annotation)  # of a Literal
    return _ARROW_TYPES[type(named[0]) if named else annotation]  # type: ignore[index]
