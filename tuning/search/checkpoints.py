"""Tune's own files: among them the checkpoints from which a resumed run goes on."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from trainables.trainable import CHECKPOINT
from tuning.cluster.storage import Storage


def trial_name(setting: str, number: int) -> str:
    """The name of a trial's folder, and of the trial itself."""
    return f"{setting}-{number:05d}"


class Scratch:
    """A folder with a folder for each start of the search, which holds one for each trial.

    Tune could keep only the last checkpoint of a trial, but would then record the state of the
    whole search with each of them.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._ended = ""

    def checkpoints(self, setting: str, numbers: Iterable[int]) -> list[str]:
        """Paths of what attempts at a trial left; `numbers` and the files are the latest first."""
        found: list[str] = []
        for number in numbers:
            for start in reversed(self.storage.folders()):
                trial = self.storage / start / trial_name(setting, number)
                names = [name for name in trial.files() if name.endswith(f"/{CHECKPOINT}")]
                found += [trial.path(name) for name in reversed(names)]
        return found

    def ended(self, setting: str, number: int) -> None:
        """Delete what the trial before left: Tune may still write a checkpoint of this one."""
        for start in self.storage.folders() if self._ended else ():
            trial = self.storage / start / self._ended
            for name in trial.folders():
                _remove(trial / name)
        self._ended = trial_name(setting, number)

    def remove(self) -> None:
        """Delete everything."""
        _remove(self.storage)


def _remove(storage: Storage) -> None:
    # What cannot be deleted takes up space, but need not stop the run.
    with contextlib.suppress(OSError):
        storage.remove()
