"""What a study has learnt about its hyperparameters, for the report."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.files import INSIGHT
from results.insight import Insight
from results.store import write_json
from trainables.decrop.config import BASELINES

# PED-ANOVA compares the best trials, a fifth of all and at least this many, with all of them.
_BEST_SHARE, _BEST_TRIALS = 0.2, 5
_MIN_TRIALS = 2 * _BEST_TRIALS


def insight_of(study: optuna.Study, objective: str = "objective") -> Insight:
    """What `study` has learnt; `objective` is the name of its score.

    Importances cover the trials of the search and the published values: the hyperparameters of
    plain denoised smoothing are not chosen by the study. There are none if it has too few trials.
    In a study with two objectives they are about the first one.
    """
    with warnings.catch_warnings():
        # About hyperparameters that have not varied, which are left out.
        warnings.simplefilter("ignore")
        return Insight(objective, _importances(study), _scores(study))


def write_insight(folder: Path, study: optuna.Study, objective: str = "objective") -> None:
    """Write insight.json: what `insight_of` finds."""
    write_json(folder / INSIGHT, insight_of(study, objective).content())


def _searched(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """Trials in one of `states` with finite scores, without plain denoised smoothing."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=states)
        if trial.user_attrs.get("origin") not in BASELINES
        and (trial.state != TrialState.COMPLETE or math.isfinite(trial.values[0]))
    ]


def _importances(study: optuna.Study) -> dict[str, float]:
    """The importances, the highest first; empty if there are too few trials.

    Pruned trials count as complete ones below all others. Without them, the hyperparameters for
    which they were pruned would seem unimportant. Source: Watanabe et al. 2023 (PED-ANOVA).
    """
    complete = _searched(study, TrialState.COMPLETE)
    trials = complete + _searched(study, TrialState.PRUNED)
    names, scores = _varied(trials), {trial.values[0] for trial in complete}
    few = len(complete) < _BEST_TRIALS or len(trials) < _MIN_TRIALS
    if few or len(scores) < 2 or len(names) < 2:
        return {}
    below = max(scores) + 1 if _minimises(study) else min(scores) - 1
    values = [t.values[0] if t.state == TrialState.COMPLETE else below for t in trials]
    compared = _study_of(study.directions[0], trials, values, [t.params for t in trials])
    best = min(max(_BEST_TRIALS, round(_BEST_SHARE * len(trials))), len(complete))
    # Optuna rounds up; subtracting a half keeps it from rounding to the next whole number.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(best - 0.5) / len(trials))
    importances = get_param_importances(compared, evaluator=evaluator, params=names)
    # If all are equal, the best trials are as spread out as the others.
    return importances if len(set(importances.values())) > 1 else {}


def _study_of(
    direction: StudyDirection,
    trials: Sequence[FrozenTrial],
    values: Sequence[float],
    params: Sequence[Mapping[str, Any]],
) -> optuna.Study:
    """A study in memory of complete trials like `trials`, with other values and parameters."""
    study = optuna.create_study(direction=direction)
    for trial, value, chosen in zip(trials, values, params, strict=True):
        study.add_trial(
            create_trial(value=value, params=dict(chosen), distributions=trial.distributions)
        )
    return study


def _varied(trials: Sequence[FrozenTrial]) -> list[str]:
    names = sorted({name for trial in trials for name in trial.params})
    return [name for name in names if len({trial.params.get(name) for trial in trials}) > 1]


def _minimises(study: optuna.Study) -> bool:
    return bool(study.directions[0] == StudyDirection.MINIMIZE)


def _scores(study: optuna.Study) -> dict[int, list[tuple[int, float]]]:
    """The scores at the rungs, by trial; empty if all trials have the same single rung."""
    trials = study.get_trials(deepcopy=False)
    if len({step for trial in trials for step in trial.intermediate_values}) < 2:
        return {}
    found = {
        trial.number: [(e, s) for e, s in sorted(trial.intermediate_values.items())
                       if math.isfinite(s)]
        for trial in trials
    }  # fmt: skip
    return {number: scores for number, scores in found.items() if scores}
