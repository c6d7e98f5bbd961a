"""A small space, and random points of one."""

from typing import Any

import optuna

from search_spaces import SearchSpace

BASE: dict[str, Any] = {
    "name": "base",
    "published": {"sigma": 0.25, "mix": 0.8, "interpolation_steps": 1, "flip": False},
    "fixed": {"depth": 5},
    "parameters": {
        "sigma": {"low": 0.12, "high": 0.5, "log": True},
        "mix": {"low": 0.2, "high": 1.0},
        "interpolation_steps": {"low": 1, "high": 50},
        "flip": {"choices": [False, True]},
    },
    "sweep": [0.12, 0.25],
}


def samples(space: SearchSpace, count: int = 25) -> list[dict[str, Any]]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [space.suggest(study.ask()) for _ in range(count)]
