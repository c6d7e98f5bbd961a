"""The final training: the chosen configurations are trained once more, on all shots."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass

from results import files
from results.store import write_bytes
from trainables.models.denoisers import Denoiser
from trainables.weights.denoiser_file import denoiser_bytes
from tuning.cluster.pool import Urgency
from tuning.confirmation.selection import Confirmation, Confirmed
from tuning.confirmation.training import Trainer, Training
from tuning.errors import AllTrialsFailed
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord


@dataclass(frozen=True)
class Finalist:
    """What is certified: a confirmed configuration, and its denoiser trained on all shots.

    The bare classifier has no denoiser.
    """

    confirmed: Confirmed
    denoiser: Denoiser | None = None


@dataclass(frozen=True)
class FinalTrainer:
    """Trains configurations on all shots of a setting, all with the same `seed`."""

    setting: Setting
    trainer: Trainer
    seed: int

    async def train(self, trial: TrialRecord, urgency: Urgency) -> Denoiser | None:
        """The denoiser of a trial's configuration; None if its training diverges."""
        images, labels, _ = self.setting.shots.joined()
        label = f"{trial.label}, all shots"
        training = Training(trial.hyperparameters, images, labels, self.seed, label)
        return await self.trainer.train(training, urgency)


async def gather_finalists(
    confirmation: Confirmation, trainings: Mapping[str, Awaitable[Denoiser | None]]
) -> dict[str, Finalist]:
    """The variants and what is certified beside them, from their final `trainings` by name.

    Of the latter, what diverges is left out.

    Raises:
        AllTrialsFailed: when the training of a variant diverges.
    """
    finalists = {}
    for variant, chosen in (confirmation.variants | confirmation.further).items():
        denoiser = await trainings[variant] if chosen.trial is not None else None
        if chosen.trial is not None and denoiser is None:
            if variant in confirmation.further:
                continue
            raise AllTrialsFailed(
                f"{variant}: trial {chosen.trial.number} diverged when trained on all shots"
            )
        finalists[variant] = Finalist(chosen, denoiser)
    return finalists


def write_denoisers(setting: Setting, finalists: Mapping[str, Finalist]) -> None:
    """Write denoisers/VARIANT.safetensors, from which the variants can be certified again."""
    for variant, finalist in finalists.items():
        if finalist.denoiser is not None:
            content = denoiser_bytes(finalist.denoiser, finalist.confirmed.sigma)
            write_bytes(setting.folder / files.denoiser(variant), content)
