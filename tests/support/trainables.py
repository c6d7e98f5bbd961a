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
# How long a trial waits for what a broken search does not do.
PATIENCE = 300.0


class Climbs(tune.Trainable):
    """Trials that go from rung to rung without training; `given` is what `tasks` has for them."""

    def setup(
        self, config: dict[str, Any], tasks: dict[str, Any] | None = None, **shared: object
    ) -> None:
        if tasks is not None:
            self.given = tasks["x"]
        self.rung = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    @property
    def epochs(self) -> int:
        """The rung that comes next."""
        return RUNGS[self.rung]

    def arrived(self, objective: float, error: str = "") -> dict[str, Any]:
        """The result at the next rung, which is then behind."""
        self.rung += 1
        return reported(RUNGS[self.rung - 1], objective, error=error)

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").write_text(str(self.rung))

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.rung = int(Path(checkpoint, "training.pt").read_text())


def reported(epochs: int, objective: float, **more: Any) -> dict[str, Any]:
    """What a worker reports."""
    ended = bool(more.get("error")) or epochs == RUNGS[-1]
    return {
        "objective": objective, "accuracy": objective, "epochs": epochs, "losses": [],
        "trial_seconds": 0.5, "node": "here", "error": "", "done": ended, **more,
    }  # fmt: skip


def said_by(process: int) -> dict[str, Any]:
    """The only result of a trial, with its process where results name the host."""
    return {**reported(EPOCHS, 0.5), "node": str(process), "done": True}


class Unreliable(Climbs):
    """Trials that go wrong in the way that the folder `tasks` says for their number."""

    def step(self) -> dict[str, Any]:
        number, epochs = self.config["number"], self.epochs
        (self.given / f"{number}-{epochs}-{time.time_ns()}").touch()
        if number == 1:
            return self.arrived(float("nan"), "loss term mmd became nan in epoch 3")
        if number == 2 and epochs == 200:
            os._exit(1)
        if number == 3 and epochs == 200 and len(attempts(self.given, 3, 200)) == 1:
            os._exit(1)
        if number == 4:
            raise MemoryError("cannot allocate 80 GB")
        return self.arrived(GOOD)


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
        return said_by(os.getpid())

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "training.pt").touch()


class StartsSlowly(SaysWho):
    """All workers but the first take longer to start than the first trials last."""

    def setup(self, *arguments: Any, **shared: Any) -> None:
        super().setup(*arguments, **shared)
        time.sleep(SECONDS if len(list(self.there.iterdir())) > 1 else 0)

    def step(self) -> dict[str, Any]:
        # What follows waits for both workers.
        return said_by(os.getpid()) if self.config["number"] < WORKERS else super().step()


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
            # The other one gets two more trials, which start before this one ends by the clock, and
            # is idle once both are on record.
            while completed(self.there.parent / "study.db") < self.baselines + 1:
                time.sleep(0.1)
            (other,) = {int(path.name) for path in self.there.iterdir()} - {os.getpid()}
            os.kill(other, signal.SIGKILL)
        return super().step()


class Pauses(Climbs):
    """Trials that pause once, before their last rung."""

    def setup(self, config: dict[str, Any], *given: Any, **shared: Any) -> None:
        super().setup(config, *given, **shared)
        self.paused = False

    def step(self) -> dict[str, Any]:
        if self.rung and not self.paused:
            self.paused = True
            return reported(RUNGS[0] + 1, float("nan"), paused=True)
        (self.given / f"{self.config['number']}-{self.epochs}-{time.time_ns()}").touch()
        return self.arrived(GOOD)

    def load_checkpoint(self, checkpoint: Any) -> None:
        super().load_checkpoint(checkpoint)
        self.paused = True


class WaitsForNeighbour(Climbs):
    """Trials of which the last waits, for a bounded time, for what `tasks` says: a file.

    `tasks` also holds the number of that trial, which fails if the file is not made.
    """

    def step(self) -> dict[str, Any]:
        made, last = self.given
        deadline = time.monotonic() + PATIENCE
        while self.config["number"] == last and not made.exists():
            if time.monotonic() > deadline:
                return self.arrived(float("nan"), "nobody worked beside the last trial")
            time.sleep(0.1)
        return self.arrived(GOOD)


class Scores(Climbs):
    """Trials whose scores follow from their number; later ones wait for a slow one.

    `tasks` is a folder, and the number of the slow trial: it reaches its first rung only when three
    later ones have.
    """

    def step(self) -> dict[str, Any]:
        folder, slow = self.given
        number = self.config["number"]
        if number == slow and self.rung == 0:
            while sum(int(path.name) > number for path in folder.iterdir()) < 3:
                time.sleep(0.1)
        (folder / f"{number}").touch()
        return self.arrived(score_of(number, self.epochs))


def score_of(number: int, epochs: int) -> float:
    """What a trial of `Scores` reports."""
    return random.Random(f"{number} {epochs}").random()
