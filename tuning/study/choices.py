"""The names for --sampler and --scheduler, without an import of Optuna, which takes seconds."""

from __future__ import annotations

from typing import Literal

SamplerName = Literal["tpe", "gp", "random", "cmaes"]
SchedulerName = Literal["asha", "hyperband", "none"]
