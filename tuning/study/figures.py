"""Optuna's figures of a study and its hyperparameters, for the report."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import optuna
import plotly.graph_objects as go
from optuna.distributions import FloatDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
    plot_pareto_front,
)
from plotly.colors import sample_colorscale

from results.files import INSIGHT
from results.store import write_json
from trainables.decrop.config import BASELINES

# More axes than these side by side are not readable.
MAX_AXES = 8
# PED-ANOVA compares the best trials, a fifth of all and at least this many, with all of them.
_BEST_SHARE, _BEST_TRIALS = 0.2, 5
_MIN_TRIALS = 2 * _BEST_TRIALS
# Legible on a light background and on a dark one.
_BLUE, _ORANGE, _GREY = "#2b8cc4", "#d9772b", "#8a94a3"
_SCALE = [[0.0, _ORANGE], [0.5, _GREY], [1.0, _BLUE]]


def insight_figures(study: optuna.Study, objective: str = "objective") -> dict[str, str]:
    """Figures of a study by title, each as Plotly's JSON; `objective` names the axis of scores.

    A figure for which the study has too few trials is left out. Importances and parallel
    coordinates cover the trials of the search and the published values: the hyperparameters of
    plain denoised smoothing are not chosen by the study. In a study with two objectives, these
    figures are about the first one; the Pareto front shows it with the other, the clean accuracy.
    """
    with warnings.catch_warnings():
        # Warnings about figures that are left out here, or that the captions explain.
        warnings.simplefilter("ignore")
        compared = _compared(study)
        figures = {
            "Pareto front": _pareto_front(study, objective),
            "Hyperparameter importance": _importance(compared),
            "Parallel coordinates": _parallel(study, compared, objective),
            "Optimisation history": _history(study, objective),
            "Intermediate values": _intermediate(study, objective),
        }
    return {title: figure.to_json() for title, figure in figures.items() if figure is not None}


def write_insight(folder: Path, study: optuna.Study, objective: str = "objective") -> None:
    """Write insight.json: the figures of `insight_figures` by title."""
    figures = insight_figures(study, objective)
    write_json(folder / INSIGHT, {title: json.loads(text) for title, text in figures.items()})


def _searched(study: optuna.Study, *states: TrialState) -> list[FrozenTrial]:
    """Trials in one of `states` with finite scores, without plain denoised smoothing."""
    return [
        trial
        for trial in study.get_trials(deepcopy=False, states=states)
        if trial.user_attrs.get("origin") not in BASELINES
        and (trial.state != TrialState.COMPLETE or math.isfinite(trial.values[0]))
    ]


class _Comparison(NamedTuple):
    """The importances, the highest first, and the study and evaluator that gave them."""

    study: optuna.Study
    evaluator: PedAnovaImportanceEvaluator
    importances: dict[str, float]


def _compared(study: optuna.Study) -> _Comparison | None:
    """The best trials of the search compared with all; None if there are too few trials.

    Pruned trials count as complete ones below all others. Without them, the hyperparameters for
    which they were pruned would seem unimportant. Source: Watanabe et al. 2023 (PED-ANOVA).
    """
    complete = _searched(study, TrialState.COMPLETE)
    trials = complete + _searched(study, TrialState.PRUNED)
    names, scores = _varied(trials), {trial.values[0] for trial in complete}
    few = len(complete) < _BEST_TRIALS or len(trials) < _MIN_TRIALS
    if few or len(scores) < 2 or len(names) < 2:
        return None
    below = max(scores) + 1 if _minimises(study) else min(scores) - 1
    values = [t.values[0] if t.state == TrialState.COMPLETE else below for t in trials]
    compared = _study_of(study.directions[0], trials, values, [t.params for t in trials])
    best = min(max(_BEST_TRIALS, round(_BEST_SHARE * len(trials))), len(complete))
    # Optuna rounds up; subtracting a half keeps it from rounding to the next whole number.
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(best - 0.5) / len(trials))
    importances = get_param_importances(compared, evaluator=evaluator, params=names)
    # If all are equal, the best trials are as spread out as the others.
    if len(set(importances.values())) < 2:
        return None
    return _Comparison(compared, evaluator, importances)


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


def _importance(compared: _Comparison | None) -> go.Figure | None:
    if compared is None:
        return None
    names = sorted(compared.importances)
    figure = plot_param_importances(compared.study, compared.evaluator, names)
    figure.update_traces(marker_color=_BLUE)
    figure.update_layout(xaxis_title="share of the importance", yaxis_title=None)
    figure.update_yaxes(automargin=True)
    return _finished(
        figure,
        "How far the values of the best trials differ from those of all trials of the search, the "
        "pruned ones included (PED-ANOVA; Watanabe et al. 2023). It is about the values that were "
        "tried, and with few trials it is only a hint.",
        height=110 + 22 * len(names),
    )


def _parallel(
    study: optuna.Study, compared: _Comparison | None, objective: str
) -> go.Figure | None:
    trials = _searched(study, TrialState.COMPLETE)
    varied = _varied(trials)
    names = varied
    if compared is not None:
        names = sorted([name for name in compared.importances if name in varied][:MAX_AXES])
    if not 2 <= len(names) <= MAX_AXES or len({trial.values[0] for trial in trials}) < 2:
        return None
    params = [{name: _shown(trial, name) for name in trial.params} for trial in trials]
    values = [trial.values[0] for trial in trials]
    shown = _study_of(study.directions[0], trials, values, params)
    figure = plot_parallel_coordinate(shown, names, target_name=objective)
    _recolour(figure, _minimises(study))
    for axis, name in enumerate(names, start=1):
        ends = [_shown(trial, name) for trial in trials if _is_off(trial, name)]
        if ends:
            _label_zero(figure, axis, f"{ends[0]:.3g}")
    figure.update_xaxes(tickangle=-20, automargin=True)
    caption = "One line per complete trial, from its score to its hyperparameters"
    caption += (
        f", of which these {len(names)} are the most important."
        if len(names) < len(varied)
        else "."
    )
    return _finished(figure, caption)


def _shown(trial: FrozenTrial, name: str) -> Any:
    """The value of a parameter, with all proposals that mean 0 at the lower end of its range."""
    distribution = trial.distributions[name]
    if isinstance(distribution, FloatDistribution) and _is_off(trial, name):
        return distribution.low
    return trial.params[name]


def _is_off(trial: FrozenTrial, name: str) -> bool:
    """Whether a positive proposal stands for 0 (see `search_spaces.space.Parameter`)."""
    proposed = trial.params.get(name, 0)
    meant = trial.user_attrs.get("hyperparameters", {}).get(name, proposed)
    return bool(proposed != 0 and meant == 0)


def _recolour(figure: go.Figure, minimised: bool) -> None:
    """Draw lines of parallel coordinates in colours that stand out from any background."""
    for trace in figure.data:
        if trace.mode == "lines":
            # The first axis is the score, scaled to [0, 1].
            share = 1 - trace.y[0] if minimised else trace.y[0]
            (trace.line.color,) = sample_colorscale(_SCALE, [float(share)])
            trace.line.width, trace.opacity = 1.6, 0.7
        else:
            trace.marker.update(colorscale=_SCALE, reversescale=minimised)


def _label_zero(figure: go.Figure, axis: int, text: str) -> None:
    """Replace the label `text` on an axis of parallel coordinates by 0, and remove those above.

    Those are the labels between 0 and the smallest other value.
    """
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    for line in lines:
        cells = [list(cell) for cell in line.customdata]
        if cells[axis][1] == text:
            cells[axis][1] = "0"
            line.customdata = cells
    zero = min(line.y[axis] for line in lines if line.customdata[axis][1] == "0")
    others = min((line.y[axis] for line in lines if line.y[axis] > zero), default=math.inf)
    for note in figure.layout.annotations:
        if note.x == axis and note.text == text:
            note.text = "0"
        elif note.x == axis and zero < note.y < others:
            note.text = ""


def _history(study: optuna.Study, objective: str) -> go.Figure | None:
    if len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))) < 2:
        return None
    # The first of two objectives; Optuna then draws no line for the best.
    target = None if len(study.directions) == 1 else _first_value
    figure = plot_optimization_history(study, target=target, target_name=objective)
    figure.update_traces(selector={"mode": "markers"}, marker_color=_BLUE)
    figure.update_traces(selector={"mode": "lines"}, line={"color": _GREY, "shape": "hv"})
    figure.for_each_trace(lambda trace: trace.update(name="best so far"), {"mode": "lines"})
    figure.update_layout(xaxis_title="trial")
    return _finished(figure, "Scores of the complete trials and the best so far.")


def _first_value(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _intermediate(study: optuna.Study, objective: str) -> go.Figure | None:
    trials = study.get_trials(deepcopy=False)
    if len({step for trial in trials for step in trial.intermediate_values}) < 2:
        return None
    figure = plot_intermediate_values(study)
    pruned = {f"Trial{t.number}" for t in trials if t.state == TrialState.PRUNED}
    for trace in figure.data:
        stopped = trace.name in pruned
        trace.line.update(color=_ORANGE if stopped else _BLUE, dash="dot" if stopped else "solid")
        trace.marker.update(color=trace.line.color, symbol="triangle-down" if stopped else "circle")
        trace.update(name=trace.name.replace("Trial", "trial "), opacity=0.7)
    figure.update_layout(xaxis_title="epochs", yaxis_title=objective)
    return _finished(
        figure, "Scores of the trials at their rungs; dotted lines with triangles were pruned."
    )


def _pareto_front(study: optuna.Study, objective: str) -> go.Figure | None:
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    # Three dimensions would need WebGL, and more cannot be drawn.
    if len(study.directions) != 2 or len(complete) < 2:
        return None
    figure = plot_pareto_front(study, target_names=[objective, "clean accuracy"])
    return _finished(figure, "Complete trials by both of their scores in the search.")


def _finished(figure: go.Figure, caption: str, height: int = 420) -> go.Figure:
    """The figure without its own title and colours, which the report adds with the `caption`."""
    figure.update_layout(
        title=None,
        template=None,
        plot_bgcolor=None,
        height=height,
        margin={"l": 60, "r": 20, "t": 40, "b": 50},
        meta={"caption": caption},
    )
    return figure
