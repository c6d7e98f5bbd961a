"""Learning-rate schedules: the factor on the learning rate at a share of a stage."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["step", "cosine", "onecycle"]
# OneCycle's parameters, as in torch.optim.lr_scheduler.OneCycleLR.
WARM_UP = 0.3
START, END = 1 / 25, 1 / 25 / 1e4


def learning_rate_factor(schedule: Schedule, progress: float, step_decay: float) -> float:
    """Factor in (0, 1] at `progress` in [0, 1).

    `step` multiplies by `step_decay` after each third (published: StepLR every 200 of a stage's 600
    epochs);
    `cosine` falls to 0 (Loshchilov and Hutter 2017); `onecycle` rises for 30 % and then falls
    (Smith and Topin 2019).
    """
    if schedule == "step":
        return float(step_decay ** int(3 * progress))
    if schedule == "cosine":
        return _anneal(1.0, 0.0, progress)
    if progress < WARM_UP:
        return _anneal(START, 1.0, progress / WARM_UP)
    return _anneal(1.0, END, (progress - WARM_UP) / (1 - WARM_UP))


def _anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2
