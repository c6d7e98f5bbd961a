"""The exported classifier of a setting: what a user deploys."""

from __future__ import annotations

import torch
from torch import nn

from results import files
from results.store import write_bytes, write_text
from trainables.acceleration.voting import Precision
from trainables.black_box.queries import BlackBox
from trainables.smoothing.noise import Noise
from trainables.smoothing.smoothed import CONFIG, ExportConfig, export_config
from trainables.weights.denoiser_file import WEIGHTS, denoiser_bytes
from tuning.cluster.context import Context
from tuning.confirmation.final import Finalist
from tuning.monitoring.tensorboard import StudyBoard
from tuning.setting.setting import Setting

# The number of tuning images on which TensorBoard shows the best denoiser.
SHOWN = 8


def export(
    setting: Setting, best: Finalist, classifier: nn.Module, precision: Precision, context: Context
) -> None:
    """Write smoothed_classifier/: the winner's weights and everything that deploying it needs."""
    assert best.denoiser is not None
    # Users load the export with the classifier itself, not with the wrapper that hides gradients.
    network = classifier.network if isinstance(classifier, BlackBox) else classifier
    trial, sigma = best.confirmed.trial, best.confirmed.sigma
    assert trial is not None
    config = export_config(
        network,
        setting.shots.tuning_images[0],
        len(setting.dataset.classes),
        Noise(sigma, setting.pixel_steps),
        context.config.certificates(setting.radii),
        precision,
    )
    # Validated anew: what cannot be read back must not be written.
    config = ExportConfig.model_validate(
        config.model_dump() | {"origin": trial.origin, "trial": trial.number}
    )
    folder = setting.folder / files.EXPORT
    write_bytes(folder / WEIGHTS, denoiser_bytes(best.denoiser, sigma))
    write_text(folder / CONFIG, config.text)


def show_denoised(setting: Setting, best: Finalist, board: StudyBoard, seed: int) -> None:
    """Show in TensorBoard what the winner does to a few noisy tuning images."""
    assert best.denoiser is not None
    clean = setting.shots.tuning_images[:SHOWN]
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    noisy = clean + best.confirmed.sigma * noise
    with torch.inference_mode():
        board.denoised(clean, noisy, best.denoiser(noisy))
