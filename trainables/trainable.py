"""DE-CROP training as a Ray Tune trainable: the only module here that uses Ray."""

from __future__ import annotations

import contextlib
import faulthandler
import io
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
from numpy.typing import NDArray
from pyarrow.fs import FileSystem, LocalFileSystem
from ray import tune
from ray._raylet import setproctitle  # type: ignore[attr-defined]
from torch import nn

from trainables.decrop.config import DecropConfig
from trainables.errors import NonFiniteLoss
from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.objective import Score, clean_accuracy
from trainables.smoothing.prediction import Certification
from trainables.smoothing.showing import places, show
from trainables.task import TrialTask
from trainables.worker import free_gpu_memory, prepare_worker

CHECKPOINT = "training.pt"
# What reading an incomplete checkpoint may raise.
UNREADABLE = (OSError, ValueError, RuntimeError, EOFError, pickle.UnpicklingError)


class DecropTrainable(tune.Trainable):
    """Trains one denoiser from rung to rung and scores it on the tuning images.

    If it is asked to pause in between, it returns a result that is `paused`: it has no score yet,
    and its checkpoint continues from there.

    The configuration holds the name of the `setting`, the `number` of the trial, its `label` for
    people, its `seed`, `hyperparameters` as a `DecropConfig`, and `checkpoints`, files that earlier
    attempts at the same trial left, the latest first. `best` has the highest objective at each rung
    that was known when it was proposed: a result that is better comes with images to show.
    """

    def setup(
        self,
        config: dict[str, Any],
        tasks: Mapping[str, TrialTask] | None = None,
        filesystem: FileSystem | None = None,
    ) -> None:
        """Start the training that `config` describes; `tasks` holds what each setting shares.

        Checkpoints are in `filesystem`. An actor that is reused keeps both.
        """
        if tasks is not None:
            self.tasks, self.filesystem = tasks, filesystem or LocalFileSystem()
        self.task = self.tasks[config["setting"]]
        prepare_worker(self.task.device, self.task.threads, self.task.gpu_share)
        self.setting, self.label = config["setting"], config["label"]
        self.best: Mapping[int, float] = config["best"]
        self.hyperparameters: DecropConfig = config["hyperparameters"]
        # The previous trial of this actor: a GPU may not have room for two of them.
        vars(self).pop("training", None)
        free_gpu_memory()
        self.training = self.task.training(
            self.hyperparameters, self.task.train_images, self.task.train_labels, config["seed"]
        )
        self.seconds, self.scored, self.score = 0.0, 0, math.nan
        for path in config["checkpoints"]:
            # It may be incomplete, if the run was killed while it was written.
            with contextlib.suppress(*UNREADABLE):
                with self.filesystem.open_input_stream(path) as stream:
                    state = _read(io.BytesIO(stream.read()))
                self._continue_from(state)
                break

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start the next trial in this actor: model, optimiser and random streams are all new."""
        self.setup(new_config)
        return True

    def __repr__(self) -> str:
        """The worker's name in Ray's dashboard, which asks for it only once, at its first trial.

        Its tasks are named by the trials, and so is its process.
        """
        return "search worker"

    def step(self) -> dict[str, Any]:
        """Train up to the next rung and score the denoiser there, unless asked to pause."""
        with _ended_after(self.task.timeout):
            return self._next_rung()

    def _next_rung(self) -> dict[str, Any]:
        started = time.perf_counter()
        last = self.task.rungs[-1]
        # An earlier attempt may have left the checkpoint of the last rung, but no result.
        rung = next((r for r in self.task.rungs if r > self.scored), last)
        losses: list[dict[str, float]] = []
        rates: list[float] = []
        objective, accuracy, error, paused, denoised = math.nan, math.nan, "", False, None
        try:
            while not (paused := self.task.asked_to_pause()) and self.training.epoch < rung:
                self._say_epoch()
                losses.append(self.training.train_epoch())
                rates.append(self.training.learning_rate)
            if not paused:
                objective, accuracy = self._score(rung)
                self.scored, self.score = rung, objective
                if objective > self.best.get(rung, -math.inf):
                    denoised = self._show()
        except NonFiniteLoss as failure:
            # An exception would make Ray repeat a trial that would fail again.
            error = str(failure)
        self.seconds += time.perf_counter() - started
        return {
            "objective": objective,
            "accuracy": accuracy,
            "epochs": self.training.epoch,
            "losses": losses,
            "learning_rates": rates,
            "denoised": denoised,
            "trial_seconds": self.seconds,
            "node": ray.util.get_node_ip_address(),
            "error": error,
            "paused": paused,
            "done": bool(error) or (rung == last and not paused),
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Write the whole training state, so that a restarted worker continues from it."""
        state = {
            "training": self.training.state_dict(),
            "scored": self.scored,
            "score": self.score,
            "seconds": self.seconds,
        }
        torch.save(state, Path(checkpoint_dir) / CHECKPOINT)

    def load_checkpoint(self, checkpoint: dict[str, Any] | str | None) -> None:
        """Continue from a state written by `save_checkpoint`."""
        state = _read(Path(str(checkpoint)) / CHECKPOINT)
        self._continue_from(state)
        self.seconds = state["seconds"]

    def _continue_from(self, state: dict[str, Any]) -> None:
        self.training.load_state_dict(state["training"])
        # Checkpoints of earlier versions have no score.
        self.scored, self.score = state["scored"], state.get("score", math.nan)

    def _score(self, rung: int) -> tuple[float, float]:
        """Objective and clean accuracy on the tuning images.

        Every trial sees the same noise, scaled by its sigma.
        """
        task, sigma = self.task, self.hyperparameters.sigma
        cast = task.votes_at(rung)
        model = nn.Sequential(self.training.denoiser, self.task.classifier).eval()
        images = task.tuning_images.to(task.device)
        counts = count_votes(
            model,
            [
                Piece(image, Noise(sigma), plan_blocks(cast, task.shared_seed, "tuning", index))
                for index, image in enumerate(images)
            ],
        )
        votes, labels = counts.cpu().numpy(), task.tuning_labels.tolist()
        certification = Certification(task.n0, task.n, sigma, task.alpha)
        objective = task.objective.scores(votes, labels, certification)
        accuracy = clean_accuracy(votes, labels, certification)
        return Score.of(objective).mean, Score.of(accuracy).mean

    def _say_epoch(self) -> None:
        """Put what is being done into the title of this process, which Ray's dashboard shows.

        Ray sets it anew for every task.
        """
        if ray.is_initialized():
            said = f"{self.setting}: {self.label}, epoch {self.training.epoch + 1}"
            score = f", score {self.score:.3f}" if math.isfinite(self.score) else ""
            setproctitle(f"ray::{said} of {self.task.rungs[-1]}{score}")

    def _show(self) -> NDArray[np.uint8]:
        """What the denoiser does to a few tuning images, with the same noise in every trial."""
        task = self.task
        images = task.tuning_images[places(task.tuning_labels)]
        sigma, seed = self.hyperparameters.sigma, task.shared_seed % 2**63
        return show(self.training.denoiser.eval(), images, sigma, seed)


@contextlib.contextmanager
def _ended_after(seconds: float | None) -> Iterator[None]:
    """End this process if the block takes longer than `seconds`."""
    if seconds is not None:
        # This runs in a C thread, so it works even if Python hangs.
        faulthandler.dump_traceback_later(seconds, exit=True)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _read(file: Path | io.BytesIO) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state
