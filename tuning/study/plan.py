"""How a study searches, and the trials it proposes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from tuning.study.choices import SamplerName, SchedulerName


class Proposal(NamedTuple):
    """A trial to run: its number and seed, and a full set of hyperparameters.

    `abandoned` are the numbers of earlier attempts, the latest first: the trial may go on from
    where one of them was.
    """

    number: int
    seed: int
    hyperparameters: dict[str, Any]
    abandoned: tuple[int, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How a study searches. The first start decides about `cohort`, and resumptions keep it.

    With `pareto` a trial has two values, the objective and the clean accuracy, and none is pruned.
    """

    trials: int
    cohort: int
    seed: int
    sampler: SamplerName = "tpe"
    scheduler: SchedulerName = "asha"
    pareto: bool = False
