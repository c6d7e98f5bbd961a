"""Trainables that do what a test wants.

Nothing is imported that takes long: each worker that starts imports this page.
"""

import os
import random
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from ray import tune

RUNGS = (25, 200)
GOOD = 0.4
EPOCHS, WORKERS = 25, 2
SECONDS = 4.0


class Unreliable(tune.Trainable):
    """Trials that go wrong in the way that the folder `tasks` says for their number."""

    def setup(
        self, config: dict[str, Any], tasks: dict[str, Path] | None = None, **shared: object
    ) -> None:
        if tasks is not None:
            self.folder = tasks["x"]
        self.rung = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        number, epochs = self.config["number"], RUNGS[self.rung]
        (self.folder / f"{number}-{epochs}-{time.time_ns()}").touch()
        self.rung += 1
        error, objective = "", GOOD
        if number == 1:
            error, objective = "loss term mmd became nan in epoch 3", float("nan")
        if number == 2 and epochs == 200:
            os._exit(1)
        if number == 3 and epochs == 200 and len(attempts(self.folder, 3, 200)) == 1:
            os._exit(1)
        if number == 4:
            raise MemoryError("cannot allocate 80 GB")
        return {
            "objective": objective, "accuracy": objective, "epochs": epochs, "losses": [],
            "trial_seconds": 0.5,
            "node": "here", "error": error, "done": bool(error) or epochs == RUNGS[-1],
        }  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").write_text(str(self.rung))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.rung = int(Path(checkpoint, "training.pt").read_text())


def attempts(folder: Path, number: int, epochs: int) -> list[Path]:
    return list(folder.glob(f"{number}-{epochs}-*"))


class SaysWho(tune.Trainable):
    """Trains nothing; its process stands where results name the host.

    It begins when all workers are there, and trials after the baselines take longer than the start
    of a worker: else the first would do everything meanwhile.
    """

    def setup(self, config: object, tasks: Any = None, filesystem: object = None) -> None:
        self.there, self.baselines = tasks["x"]
        (self.there / str(os.getpid())).touch()

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        return True

    def step(self) -> dict[str, Any]:
        while len(list(self.there.iterdir())) < WORKERS:
            time.sleep(0.1)
        time.sleep(SECONDS if self.config["number"] >= self.baselines else 0)
        return {
            "objective": 0.5,
            "accuracy": 0.5,
            "epochs": EPOCHS,
            "losses": [],
            "trial_seconds": 1.0,
            "node": str(os.getpid()),
            "error": "",
            "done": True,
        }

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").touch()


def completed(database: Path) -> int:
    """How many trials are complete."""
    with closing(sqlite3.connect(database, timeout=300)) as db:
        query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"
        (found,) = db.execute(query).fetchone()
    return int(found)


class KillsTheIdle(SaysWho):
    """The last of the baselines ends the worker that waits for it."""

    def step(self) -> dict[str, Any]:
        if self.config["number"] == self.baselines - 1:
            # The other one gets one more trial, and is idle once that is on record: the clock
            # waits for this one.
            while completed(self.there.parent / "study.db") < self.baselines:
                time.sleep(0.1)
            (other,) = {int(path.name) for path in self.there.iterdir()} - {os.getpid()}
            os.kill(other, signal.SIGKILL)
        return super().step()


class Pauses(tune.Trainable):
    """Trials that pause once, before their last rung."""

    def setup(
        self, config: dict[str, Any], tasks: dict[str, Path] | None = None, **shared: object
    ) -> None:
        if tasks is not None:
            self.folder = tasks["x"]
        self.rung, self.paused = 0, False

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        epochs = RUNGS[self.rung]
        if self.rung and not self.paused:
            self.paused = True
            return self.result(RUNGS[0] + 1, float("nan"), paused=True)
        (self.folder / f"{self.config['number']}-{epochs}-{time.time_ns()}").touch()
        self.rung += 1
        return self.result(epochs, GOOD, paused=False)

    def result(self, epochs: int, objective: float, *, paused: bool) -> dict[str, Any]:
        return {
            "objective": objective, "accuracy": objective, "epochs": epochs, "losses": [],
            "trial_seconds": 0.5, "node": "here", "error": "", "paused": paused,
            "done": epochs == RUNGS[-1],
        }  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").write_text(str(self.rung))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.rung, self.paused = int(Path(checkpoint, "training.pt").read_text()), True


class Scores(tune.Trainable):
    """Trials whose scores follow from their number; later ones wait for a slow one.

    `tasks` is a folder, and the number of the slow trial: it reaches its first rung only when three
    later ones have.
    """

    def setup(
        self,
        config: dict[str, Any],
        tasks: dict[str, tuple[Path, int]] | None = None,
        **shared: object,
    ) -> None:
        if tasks is not None:
            self.folder, self.slow = tasks["x"]
        self.rung = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        number, epochs = self.config["number"], RUNGS[self.rung]
        if number == self.slow and self.rung == 0:
            while sum(int(path.name) > number for path in self.folder.iterdir()) < 3:
                time.sleep(0.1)
        (self.folder / f"{number}").touch()
        self.rung += 1
        objective = score_of(number, epochs)
        return {
            "objective": objective, "accuracy": objective, "epochs": epochs, "losses": [],
            "trial_seconds": 0.5, "node": "here", "error": "", "done": epochs == RUNGS[-1],
        }  # fmt: skip

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").write_text(str(self.rung))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.rung = int(Path(checkpoint, "training.pt").read_text())


def score_of(number: int, epochs: int) -> float:
    """What a trial of `Scores` reports."""
    return random.Random(f"{number} {epochs}").random()
