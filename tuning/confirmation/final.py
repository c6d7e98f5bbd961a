"""The final training: the chosen configurations are trained once more, on all shots."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from results import files
from results.store import write_bytes
from trainables.models.denoisers import Denoiser
from trainables.weights.denoiser_file import denoiser_bytes
from tuning.cluster.context import Context
from tuning.confirmation.selection import Confirmation, Confirmed
from tuning.confirmation.training import Trainer, Training
from tuning.errors import AllTrialsFailed
from tuning.setting.setting import Setting


@dataclass(frozen=True)
class Finalist:
    """What is certified: a confirmed configuration, and its denoiser trained on all shots.

    The bare classifier has no denoiser.
    """

    confirmed: Confirmed
    denoiser: Denoiser | None = None


def train_finalists(
    confirmation: Confirmation, setting: Setting, trainer: Trainer, context: Context
) -> dict[str, Finalist]:
    """Train the variants and what is certified beside them on all shots, and write the denoisers.

    Of the latter, what diverges is left out.

    Raises:
        AllTrialsFailed: when the training of a variant diverges.
    """
    context.reporter.say(f"{setting.name}: training on all shots ...")
    images, labels, _ = setting.shots.joined()
    seed = context.seed(setting.name, "final")
    certified = confirmation.variants | confirmation.further
    trainings = {
        variant: Training(chosen.trial.hyperparameters, images, labels, seed)
        for variant, chosen in certified.items()
        if chosen.trial is not None
    }
    denoisers = dict(zip(trainings, trainer.train(list(trainings.values())), strict=True))
    finalists = {}
    for variant, chosen in certified.items():
        denoiser = denoisers.get(variant)
        if chosen.trial is not None and denoiser is None:
            if variant in confirmation.further:
                continue
            raise AllTrialsFailed(
                f"{variant}: trial {chosen.trial.number} diverged when trained on all shots"
            )
        finalists[variant] = Finalist(chosen, denoiser)
    _write_denoisers(setting, finalists)
    return finalists


def _write_denoisers(setting: Setting, finalists: Mapping[str, Finalist]) -> None:
    """Write denoisers/VARIANT.safetensors, from which the variants can be certified again."""
    for variant, finalist in finalists.items():
        if finalist.denoiser is not None:
            content = denoiser_bytes(finalist.denoiser, finalist.confirmed.sigma)
            write_bytes(setting.folder / files.denoiser(variant), content)
