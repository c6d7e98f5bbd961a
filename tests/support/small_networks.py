"""The smallest training worth a test."""

from typing import Any

from torch import Tensor

from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining

SMALL = {
    "depth": 3, "width": 4, "epochs": 4, "batch_size": 8, "crop_padding": 1, "flip": False,
    "attack_steps": 3, "learning_rate": 0.01,
}  # fmt: skip


def config(**changes: Any) -> DecropConfig:
    return DecropConfig.model_validate(SMALL | changes)


def denoiser_inputs(training: DecropTraining) -> list[Tensor]:
    """The batches that reach the denoiser from now on."""
    seen: list[Tensor] = []
    training.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    return seen
