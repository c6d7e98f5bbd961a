"""The samplers for --sampler."""

from __future__ import annotations

import warnings

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler

from search_spaces import SearchSpace
from tuning.errors import ConfigError
from tuning.study.choices import SamplerName


def make_sampler(
    name: SamplerName, seed: int, space: SearchSpace, pareto: bool = False
) -> BaseSampler:
    """A new sampler without a state except its seed; it learns from the study."""
    if name == "random":
        return RandomSampler(seed)
    if name == "gp":
        # The objective is noisy: equal points need not score alike.
        return GPSampler(seed=seed, deterministic_objective=False, warn_independent_sampling=False)
    if name == "cmaes":
        return CmaEsSampler(seed=seed, n_startup_trials=10, warn_independent_sampling=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if pareto:
            # Multivariate sampling would soon propose only around one end of the front.
            return TPESampler(seed=seed, constant_liar=True)
        # Without groups, conditional parameters would be sampled independently of the others.
        return TPESampler(seed=seed, constant_liar=True, multivariate=True, group=space.conditional)


def check_sampler(name: SamplerName, space: SearchSpace, pareto: bool = False) -> None:
    """Refuse a sampler that cannot work in the space, or with two objectives.

    Raises:
        ConfigError: naming the obstacle.
    """
    if name != "cmaes":
        return
    if pareto:
        raise ConfigError("--sampler: cmaes takes one objective only; for pareto pass tpe")
    unfit = [n for n, p in space.parameters.items() if p.choices is not None or p.when]
    if unfit:
        raise ConfigError(
            f"--sampler: cmaes needs ranges that every trial has, but {space.name} varies "
            f"{', '.join(unfit)}; fix these with --set, or pass tpe"
        )
