"""Proposals that stand for zero: samplers see them as proposed, readers of the database as meant.

To a sampler, the zero of an `or_zero` parameter is a stretch below its range (see
`search_spaces.space.Parameter`), and plain denoised smoothing a proposal like any other, although
it holds some hyperparameters at values of its own. A tool that draws the study must not show any of
that. The database therefore has the values that a trial really had, over a range that includes
zero; what was proposed is in an attribute beside them, which tools do not show.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    FloatDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.trial import FrozenTrial

# The system attribute of a trial with the proposals that the database shows differently.
PROPOSED = "decrop:proposed"


def as_meant(trial: FrozenTrial, or_zero: Collection[str]) -> FrozenTrial:
    """A trial for the database, with the values that its parameters stand for.

    `or_zero` names the parameters whose proposals may stand for zero. A parameter that the trial
    holds at a value out of its range is left out.
    """
    params, distributions, proposed = dict(trial.params), dict(trial.distributions), {}
    for name, distribution in trial.distributions.items():
        value, meant = trial.params[name], trial.user_attrs["hyperparameters"][name]
        if name not in or_zero and meant == value:
            continue
        proposed[name] = {"value": value, "distribution": distribution_to_json(distribution)}
        del params[name], distributions[name]
        if name in or_zero:
            assert isinstance(distribution, FloatDistribution)
            # A logarithmic range cannot include zero.
            shown = FloatDistribution(0.0, distribution.high)
            if shown.low <= meant <= shown.high:
                params[name], distributions[name] = meant, shown
    return _changed(trial, params, distributions, trial.system_attrs | {PROPOSED: proposed})


def as_proposed(trial: FrozenTrial) -> FrozenTrial:
    """A trial from the database, with its parameters as the sampler knows them."""
    attributes = dict(trial.system_attrs)
    proposed = attributes.pop(PROPOSED, {})
    params, distributions = dict(trial.params), dict(trial.distributions)
    for name, kept in proposed.items():
        params[name] = kept["value"]
        distributions[name] = json_to_distribution(kept["distribution"])
    return _changed(trial, params, distributions, attributes)


def _changed(
    trial: FrozenTrial,
    params: dict[str, Any],
    distributions: dict[str, BaseDistribution],
    attributes: Mapping[str, Any],
) -> FrozenTrial:
    changed = copy.copy(trial)
    changed.params, changed.distributions = params, distributions
    changed.system_attrs = dict(attributes)
    return changed
