"""Tune's own files: among them the checkpoints from which a resumed run goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from trainables.trainable import CHECKPOINT


def trial_name(setting: str, number: int) -> str:
    """The name of a trial's folder, and of the trial itself."""
    return f"{setting}-{number:05d}"


class Scratch:
    """A folder with one folder for each start of the search, and in that one for each trial.

    Tune could keep the last checkpoint of a trial alone, but would then record the state of the
    whole search at each of them.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self._ended = ""

    def checkpoints(self, setting: str, numbers: Iterable[int]) -> list[str]:
        """What attempts at a trial left; `numbers` and the files are the latest first."""
        found: list[Path] = []
        for number in numbers:
            pattern = f"*/{trial_name(setting, number)}/checkpoint_*/{CHECKPOINT}"
            found += sorted(self.folder.glob(pattern), reverse=True)
        return [str(path) for path in found]

    def ended(self, setting: str, number: int) -> None:
        """Delete what the trial before left: Tune may still write a checkpoint of this one."""
        for path in self.folder.glob(f"*/{self._ended}/checkpoint_*") if self._ended else ():
            shutil.rmtree(path, ignore_errors=True)
        self._ended = trial_name(setting, number)

    def remove(self) -> None:
        """Delete everything."""
        shutil.rmtree(self.folder, ignore_errors=True)
