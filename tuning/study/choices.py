"""What --sampler and --scheduler can name; importing Optuna to know would take seconds."""

from __future__ import annotations

from typing import Literal

SamplerName = Literal["tpe", "gp", "random", "cmaes"]
SchedulerName = Literal["asha", "hyperband", "none"]
