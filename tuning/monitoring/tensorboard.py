"""What TensorBoard shows of a study while it runs, written by the driver into the run folder."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams import api_pb2, metadata
from tensorboard.plugins.hparams.plugin_data_pb2 import (
    HParamsPluginData,
    SessionEndInfo,
    SessionStartInfo,
)
from torch.utils.tensorboard import SummaryWriter

from results.schema import STATES

# TensorBoard sorts groups of tags by name: scores come before losses.
OBJECTIVE, ACCURACY = "evaluation/objective", "evaluation/clean accuracy"
LEARNING_RATE = "optimiser/learning rate"
# The columns of the HParams table beside the hyperparameters, and the state of what was certified.
# TensorBoard sorts columns, capitals first.
ORIGIN, STATE, TRIAL = "Origin", "State", "Trial"
CERTIFIED = "certified"
# Runs that are not trials come after all that are, whose names begin with a number.
ABOUT, BEST, WINNER = "about", "best so far", "winner"
# The least height of an image in pixels: smaller ones are enlarged.
LEAST_HEIGHT = 64

Value = bool | int | float | str


class StudyBoard:
    """One TensorBoard run per point of a setting, and further ones about the setting.

    `best` holds the highest objective at each rung, by its epochs. Runs of points are named by
    their labels, such as `011 start`. A point keeps its run when it is tried again, for example
    after the study was resumed: what is written twice is shown once.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[str, SummaryWriter] = {}
        # The last epoch in each run that was written by this process.
        self._epochs: dict[str, int] = {}
        self.best: dict[int, float] = {}

    def columns(
        self, columns: Mapping[str, Sequence[Value]], metrics: Sequence[str], about: str
    ) -> None:
        """Declare the columns of the HParams table, and say what the setting is.

        `columns` has all values that each may have, or none for numbers; `about` is Markdown.
        Settings side by side must declare the same: TensorBoard reads only one declaration.
        """
        all_columns = {STATE: (*STATES, CERTIFIED), TRIAL: (), **columns}
        infos = [_column(name, values) for name, values in all_columns.items()]
        shown = [
            api_pb2.MetricInfo(name=api_pb2.MetricName(tag=tag), display_name=tag.partition("/")[2])
            for tag in (OBJECTIVE, ACCURACY, *metrics)
        ]
        declared = api_pb2.Experiment(hparam_infos=infos, metric_infos=shown)
        with self._anew(ABOUT) as writer:
            _add(writer, metadata.EXPERIMENT_TAG, experiment=declared)
            writer.add_text(ABOUT, about)

    def result(self, run: str, result: Mapping[str, Any]) -> None:
        """Write what happened in the epochs since the last result, and the scores at this rung.

        If the result has images of the denoiser, and no other was as good at this rung, they are
        shown.
        """
        epochs, losses = result["epochs"], result["losses"]
        first = epochs - len(losses) + 1
        writer = self._writer(run, first)
        for epoch, terms in enumerate(losses, start=first):
            for name, value in terms.items():
                writer.add_scalar(f"loss/{name}", value, epoch)
        for epoch, rate in enumerate(result.get("learning_rates", ()), start=first):
            writer.add_scalar(LEARNING_RATE, rate, epoch)
        objective = result["objective"]
        # It is not if the trial pauses, or has failed.
        if math.isfinite(objective):
            writer.add_scalar(OBJECTIVE, objective, epochs)
            writer.add_scalar(ACCURACY, result["accuracy"], epochs)
            if objective > self.best.get(epochs, -math.inf):
                self.best[epochs] = objective
                self._show_best(run, epochs, result.get("denoised"))
        writer.flush()
        self._epochs[run] = epochs

    def end(
        self, run: str, state: str, origin: str, number: int, hyperparameters: Mapping[str, Value]
    ) -> None:
        """Write the row of a trial in the HParams table; TensorBoard adds its latest scores."""
        writer = self._writer(run, None)
        row = {STATE: state, ORIGIN: origin, TRIAL: number, **hyperparameters}
        self._add_row(writer, run, row)
        writer.close()
        del self._writers[run]

    def certified(
        self,
        variant: str,
        origin: str,
        number: int | None,
        hyperparameters: Mapping[str, Value],
        metrics: Mapping[str, float],
        text: str = "",
    ) -> None:
        """Write what was certified of a variant as a run of its own; `text` is Markdown."""
        run = f"{CERTIFIED} {variant}"
        row = {STATE: CERTIFIED, ORIGIN: origin, **hyperparameters}
        if number is not None:
            row[TRIAL] = number
        with self._anew(run) as writer:
            self._add_row(writer, run, row)
            for tag, value in metrics.items():
                writer.add_scalar(tag, value, 0)
            if text:
                writer.add_text("what was proved", text)

    def winner(self, images: NDArray[np.uint8]) -> None:
        """Show what the winner does to some images, as `trainables.smoothing.showing` has them."""
        with self._anew(WINNER) as writer:
            writer.add_image("images/winner: clean, noisy, denoised", _grid(images))

    def close(self) -> None:
        """Close what is still open."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _show_best(self, run: str, epochs: int, images: NDArray[np.uint8] | None) -> None:
        if images is None:
            return
        writer = self._writer(BEST, None)
        # The step says which trial it was.
        tag = f"images/best at epoch {epochs}: clean, noisy, denoised"
        writer.add_image(tag, _grid(images), int(run.partition(" ")[0]))
        writer.flush()

    def _writer(self, run: str, first: int | None) -> SummaryWriter:
        """The writer of a run; what is there from the epoch `first` on will be hidden."""
        writer = self._writers.get(run)
        if writer is not None and first is not None and first <= self._epochs.get(run, 0):
            writer.close()
            writer = None
        if writer is None:
            writer = SummaryWriter(str(self._folder / run), purge_step=first)
            self._writers[run] = writer
        return writer

    def _add_row(self, writer: SummaryWriter, run: str, row: Mapping[str, Value]) -> None:
        """Write a row of the HParams table."""
        started = SessionStartInfo(
            group_name=f"{run} ({self._folder.name})", start_time_secs=time.time()
        )
        for name, value in row.items():
            if isinstance(value, bool):
                started.hparams[name].bool_value = value
            elif isinstance(value, str):
                started.hparams[name].string_value = _said(value)
            else:
                started.hparams[name].number_value = value
        failed = row[STATE] == "failed"
        status = api_pb2.STATUS_FAILURE if failed else api_pb2.STATUS_SUCCESS
        _add(writer, metadata.SESSION_START_INFO_TAG, session_start_info=started)
        _add(writer, metadata.SESSION_END_INFO_TAG, session_end_info=SessionEndInfo(status=status))

    @contextmanager
    def _anew(self, run: str) -> Iterator[SummaryWriter]:
        """A run that is written at once, in place of the one that was there."""
        shutil.rmtree(self._folder / run, ignore_errors=True)
        with SummaryWriter(str(self._folder / run)) as writer:
            yield writer


def _add(writer: SummaryWriter, tag: str, **content: Any) -> None:
    """Write what the HParams page reads."""
    described = metadata.create_summary_metadata(HParamsPluginData(**content))
    value = Summary.Value(tag=tag, metadata=described, tensor=metadata.NULL_TENSOR)
    assert writer.file_writer is not None
    writer.file_writer.add_summary(Summary(value=[value]))


def _column(name: str, values: Sequence[Value]) -> Any:
    column = api_pb2.HParamInfo(name=name, type=api_pb2.DATA_TYPE_FLOAT64, differs=True)
    if values:
        # TensorBoard hides rows with other values.
        column.domain_discrete.extend(_said(value) for value in values)
        words = isinstance(values[0], str)
        column.type = api_pb2.DATA_TYPE_STRING if words else api_pb2.DATA_TYPE_BOOL
    return column


def _said(value: Value) -> Value:
    """A value as readers see it."""
    return value.replace("_", " ") if isinstance(value, str) else value


def _grid(images: NDArray[np.uint8]) -> torch.Tensor:
    """Rows of images [rows, n, channels, height, width] as one image [channels, height, width]."""
    rows, n, channels, height, width = images.shape
    grid = images.transpose(2, 0, 3, 1, 4).reshape(channels, rows * height, n * width)
    scale = -(-LEAST_HEIGHT // height)
    return torch.from_numpy(grid.repeat(scale, axis=1).repeat(scale, axis=2))
