"""What a run is going to cost, from a few training steps and votes on this machine."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.pace import training_pace
from trainables.decrop.precision import computes_bfloat16
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import build_denoiser
from trainables.smoothing.pace import seconds_a_vote
from trainables.worker import using_threads
from tuning.config import RunConfig
from tuning.run.work import expected_work
from tuning.setting.setting import Setting

# Bytes on disk, measured on runs: of a count of votes, of a trial in the ledger, the tables and
# TensorBoard, and of everything else.
COUNT_BYTES, TRIAL_BYTES, OTHER_BYTES = 400, 30_000, 2_000_000
# The most votes that are counted together on a CPU.
PIECE = 1000


class Cost(NamedTuple):
    """Seconds of one worker by phase, and bytes on disk."""

    search: float
    confirmation: float
    certification: float
    disk: int

    @property
    def seconds(self) -> float:
        """Those of all phases."""
        return self.search + self.confirmation + self.certification


def expected_cost(
    config: RunConfig, setting: Setting, classifier: BaseClassifier, device: str
) -> Cost:
    """The cost of a setting, whose published point is trained and votes for a moment on `device`.

    `classifier` is what the denoiser is trained through.
    """
    point = DecropConfig.model_validate(setting.space.named)
    images = setting.shots.train_images
    precision = _precision(config, device)
    examples, network = images[: point.batch_size].to(device), classifier.to(device)
    denoiser = build_denoiser(point.denoiser, images.shape[1], point.model_dump())
    with using_threads(config.cpus_per_trial):
        pace = training_pace(point, network, examples, precision)
        model = nn.Sequential(denoiser.to(device), network).eval()
        vote = seconds_a_vote(model, examples[0], precision)
    work, number = expected_work(config, setting), len(images)
    training = number * (point.epochs * pace.step + pace.generation)
    return Cost(
        work.searched * training,
        work.confirmed * training + work.confirmation_votes * vote,
        work.trained * training + work.certification_votes * vote,
        _disk(config, setting, sum(p.numel() for p in denoiser.parameters())),
    )


def _precision(config: RunConfig, device: str) -> Precision:
    if config.precision != "auto":
        return config.precision
    return "bfloat16" if computes_bfloat16(torch.device(device)) else "float32"


def _disk(config: RunConfig, setting: Setting, parameters: int) -> int:
    """Bytes that the run folder takes: denoisers, counts of votes, trials and the rest."""
    work = expected_work(config, setting)
    denoisers = 4 * parameters * (work.confirmed + 2 * work.trained)
    # A count is of a piece, or of as many votes as an image needs at a time.
    counts = work.confirmation_votes / min(PIECE, config.confirm_votes)
    counts += work.certification_votes / min(PIECE, config.n)
    trials = config.trials * TRIAL_BYTES
    return round(denoisers + max(counts, 1) * COUNT_BYTES + trials + OTHER_BYTES)
