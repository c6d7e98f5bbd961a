"""What TensorBoard shows of a study while it runs, written by the driver into the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.tensorboard import SummaryWriter


class StudyBoard:
    """One TensorBoard run per trial of a setting."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writers: dict[int, SummaryWriter] = {}

    def result(self, number: int, result: Mapping[str, Any]) -> None:
        """Write the losses of the epochs since the last result, and the scores at this rung."""
        writer = self._writer(number)
        first = result["epochs"] - len(result["losses"]) + 1
        for epoch, losses in enumerate(result["losses"], start=first):
            for name, value in losses.items():
                writer.add_scalar(f"loss/{name}", value, epoch)
        for name in () if result.get("paused") else ("objective", "accuracy"):
            writer.add_scalar(name, result[name], result["epochs"])
        writer.flush()

    def end(
        self, number: int, hyperparameters: Mapping[str, Any], objective: float, accuracy: float
    ) -> None:
        """Write the trial's row of the HParams table."""
        writer = self._writer(number)
        scores = {"hparam/objective": objective, "hparam/accuracy": accuracy}
        writer.add_hparams(dict(hyperparameters), scores, run_name=".")
        writer.close()
        del self._writers[number]

    def denoised(self, clean: Tensor, noisy: Tensor, denoised: Tensor) -> None:
        """Write what the best denoiser does to some tuning images, each [n, C, H, W]."""
        with SummaryWriter(str(self._folder / "best")) as writer:
            for name, images in (("clean", clean), ("noisy", noisy), ("denoised", denoised)):
                writer.add_images(f"best/{name}", images.clamp(0, 1))

    def close(self) -> None:
        """Close what is still open."""
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _writer(self, number: int) -> SummaryWriter:
        if number not in self._writers:
            self._writers[number] = SummaryWriter(str(self._folder / f"trial-{number:05d}"))
        return self._writers[number]
