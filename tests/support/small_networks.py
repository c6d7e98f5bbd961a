"""The smallest training worth a test."""

import io
from typing import Any

import torch
from torch import Tensor

from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining

SMALL = {
    "depth": 3, "width": 4, "epochs": 4, "batch_size": 8, "crop_padding": 1, "flip": False,
    "attack_steps": 3, "learning_rate": 0.01,
}  # fmt: skip


def config(**changes: Any) -> DecropConfig:
    return DecropConfig.model_validate(SMALL | changes)


def from_file(training: DecropTraining) -> dict[str, Any]:
    """The state of a training, after it was written to a file and read again."""
    file = io.BytesIO()
    torch.save(training.state_dict(), file)
    file.seek(0)
    state: dict[str, Any] = torch.load(file, weights_only=True)
    return state


def denoiser_inputs(training: DecropTraining) -> list[Tensor]:
    """The batches that reach the denoiser from now on."""
    seen: list[Tensor] = []
    training.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    return seen
