"""Tune's own files, including the checkpoints from which a resumed run continues."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from trainables.trainable import CHECKPOINT
from tuning.cluster.storage import Storage


def trial_name(setting: str, number: int) -> str:
    """The name of a trial's folder, and of the trial itself."""
    return f"{setting}-{number:05d}"


class Scratch:
    """Tune's folder: it has a folder for each start of the search, with one for each trial.

    Tune could keep only the last checkpoint of each trial, but would then write the state of the
    whole search with every checkpoint. So files of ended trials are deleted here.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self._ended = ""

    def checkpoints(self, setting: str, numbers: Iterable[int]) -> list[str]:
        """Paths of checkpoints that attempts `numbers` left; both are ordered latest first."""
        found: list[str] = []
        for number in numbers:
            for start in reversed(self.storage.folders()):
                trial = self.storage / start / trial_name(setting, number)
                names = [name for name in trial.files() if name.endswith(f"/{CHECKPOINT}")]
                found += [trial.path(name) for name in reversed(names)]
        return found

    def ended(self, setting: str, number: int) -> None:
        """Delete the files of the previous ended trial: Tune may still write one for this trial."""
        for start in self.storage.folders() if self._ended else ():
            trial = self.storage / start / self._ended
            for name in trial.folders():
                _remove(trial / name)
        self._ended = trial_name(setting, number)

    def remove(self) -> None:
        """Delete everything."""
        _remove(self.storage)


def _remove(storage: Storage) -> None:
    # Files that cannot be deleted take up space, but need not stop the run.
    with contextlib.suppress(OSError):
        storage.remove()
