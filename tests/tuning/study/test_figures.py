import base64
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import plotly.io
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.files import INSIGHT
from search_spaces import load_space
from tests.support.ledgers import result
from tuning.study.database import sqlite_url
from tuning.study.figures import MAX_AXES, insight_figures, write_insight
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

ALL = [
    "Hyperparameter importance",
    "Parallel coordinates",
    "Optimisation history",
    "Intermediate values",
]
UNIT = FloatDistribution(0.0, 1.0)
Direction = Literal["minimize", "maximize"]


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def trial(
    value: Any = None,
    params: dict[str, Any] | None = None,
    zeros: tuple[str, ...] = (),
    **more: Any,
) -> FrozenTrial:
    """A complete trial of the search; parameters are in [0, 1], but for a choice."""
    params = params or {}
    distributions = {
        name: CategoricalDistribution(["a", "b"]) if isinstance(v, str) else UNIT
        for name, v in params.items()
    }
    origin = more.pop("origin", "search")
    attributes = {"origin": origin, "hyperparameters": {**params, **dict.fromkeys(zeros, 0.0)}}
    more = {"distributions": distributions, "user_attrs": attributes, **more}
    return create_trial(value=value, params=params, **more)


def study_of(*trials: FrozenTrial, direction: Direction = "maximize") -> optuna.Study:
    study = optuna.create_study(direction=direction)
    study.add_trials(trials)
    return study


def search(count: int, names: str = "xyz", seed: int = 0, **more: Any) -> list[FrozenTrial]:
    """Trials whose score is their first parameter."""
    points = np.random.default_rng(seed).random((count, len(names)))
    return [trial(float(p[0]), dict(zip(names, p.tolist(), strict=True)), **more) for p in points]


def figures_of(study: optuna.Study) -> dict[str, Any]:
    """The figures, which are plain JSON that Plotly accepts."""
    figures = insight_figures(study, "ACR")
    for text in figures.values():
        plotly.io.from_json(text)
        assert not any(word in text for word in ("NaN", "Infinity"))
    return {title: json.loads(text) for title, text in figures.items()}


def lines(figure: dict[str, Any]) -> list[dict[str, Any]]:
    return [trace for trace in figure["data"] if trace["mode"] == "lines"]


def axes(figure: dict[str, Any]) -> list[str]:
    return list(figure["layout"]["xaxis"]["ticktext"])


def shares(figure: dict[str, Any]) -> dict[str, float]:
    (bars,) = figure["data"]
    return dict(zip(bars["y"], numbers(bars["x"]), strict=True))


def numbers(values: Any) -> list[float]:
    """A list of numbers, which Plotly may have packed."""
    if isinstance(values, dict):
        return list(np.frombuffer(base64.b64decode(values["bdata"]), values["dtype"]).tolist())
    return list(values)


def test_the_parameter_that_decides_the_score_is_the_most_important() -> None:
    figures = figures_of(study_of(*search(60)))
    found = shares(figures["Hyperparameter importance"])
    assert max(found, key=lambda name: found[name]) == "x"
    assert found["x"] > 0.6
    assert sum(found.values()) == pytest.approx(1)


def test_what_pruned_trials_had_in_common_matters() -> None:
    # z alone decides which trials go on, and x alone how good those are.
    trials = [
        trial(t.value, t.params)
        if t.params["z"] > 0.5
        else trial(None, t.params, state=TrialState.PRUNED, intermediate_values={1: 0.9})
        for t in search(80)
    ]
    found = shares(figures_of(study_of(*trials))["Hyperparameter importance"])
    assert found["x"] > found["z"] > 0.2 > 0.1 > found["y"]


@pytest.mark.parametrize("origin", ["label_consistency", "mse"])
def test_plain_denoised_smoothing_has_no_say_in_importances(origin: str) -> None:
    searched = [*search(39), trial(0.5, {"x": 0.5, "y": 0.5, "z": 0.5}, origin="published")]
    plain = [
        trial(9.0, {"x": 0.0, "y": 1.0, "z": number / 20}, origin=origin) for number in range(20)
    ]
    alone, beside = figures_of(study_of(*searched)), figures_of(study_of(*searched, *plain))
    for title in ALL[:2]:
        assert beside[title] == alone[title]
    assert len(lines(alone["Parallel coordinates"])) == 40
    assert alone["Optimisation history"] != beside["Optimisation history"]


def test_parallel_coordinates_show_the_most_important_parameters_only() -> None:
    figures = figures_of(study_of(*search(60, "abcdefghijklmnopqrst")))
    ranked = list(shares(figures["Hyperparameter importance"]))[::-1]
    assert len(ranked) == 20
    assert axes(figures["Parallel coordinates"]) == ["ACR", *sorted(ranked[:MAX_AXES])]
    assert "these 8" in figures["Parallel coordinates"]["layout"]["meta"]["caption"]


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1.0), ("minimize", 0.0)])
def test_the_best_line_is_blue_and_the_worst_is_orange(direction: Direction, best: float) -> None:
    figure = figures_of(study_of(*search(12), direction=direction))["Parallel coordinates"]
    colours = {numbers(line["y"])[0]: line["line"]["color"] for line in lines(figure)}
    assert colours[best] == "rgb(43, 140, 196)"
    assert colours[1 - best] == "rgb(217, 119, 43)"


def test_a_proposal_that_means_zero_is_called_zero() -> None:
    # Proposals below 0.2 mean 0.
    points = [(0.02, 0.1), (0.15, 0.9), (0.3, 0.4), (0.8, 0.7), (1.0, 0.2), (0.5, 0.5)]
    trials = [
        trial(score, {"w": w, "x": score}, zeros=("w",) if w < 0.2 else ()) for w, score in points
    ]
    for one in trials:
        one.distributions["w"] = FloatDistribution(0.01, 1.0, log=True)
    figure = figures_of(study_of(*trials))["Parallel coordinates"]
    assert axes(figure) == ["ACR", "w", "x"]
    shown = [line["customdata"][1][1] for line in lines(figure)]
    assert shown == ["0", "0", "0.3", "0.8", "1", "0.5"]
    ends = [numbers(line["y"])[1] for line in lines(figure)]
    assert ends[:2] == [0.0, 0.0]
    assert min(ends[2:]) > 0.5
    notes = {n["text"]: n["y"] for n in figure["layout"]["annotations"] if n["x"] == 1}
    assert notes["0"] == 0
    # 0.1 would lie between 0 and the least weight.
    assert set(notes) == {"0", "", "1"}


def test_conditional_parameters_are_kept() -> None:
    trials = [
        trial(t.value, t.params if t.params["y"] > 0.5 else {"x": t.params["x"], "z": 0.3})
        for t in search(40)
    ]
    figures = figures_of(study_of(*trials))
    assert set(shares(figures["Hyperparameter importance"])) == {"x", "y", "z"}
    assert axes(figures["Parallel coordinates"]) == ["ACR", "x", "y", "z"]


def test_history_and_intermediate_values_hold_what_was_recorded() -> None:
    trials = [
        trial(0.3, {}, intermediate_values={5: 0.1, 9: 0.3}, origin="published"),
        trial(None, {}, intermediate_values={5: 0.05}, state=TrialState.PRUNED),
        trial(None, {}, state=TrialState.FAIL),
        trial(0.4, {}, intermediate_values={5: 0.2, 9: 0.4}),
    ]
    figures = figures_of(study_of(*trials))
    assert list(figures) == ALL[2:]
    scores, best, _ = figures["Optimisation history"]["data"]
    assert (numbers(scores["x"]), numbers(scores["y"])) == ([0, 3], [0.3, 0.4])
    assert numbers(best["y"]) == [0.3, 0.3, 0.3, 0.4]
    traces = figures["Intermediate values"]["data"]
    assert [(t["name"], t["line"]["dash"], numbers(t["x"]), numbers(t["y"])) for t in traces] == [
        ("trial 0", "solid", [5, 9], [0.1, 0.3]),
        ("trial 1", "dot", [5], [0.05]),
        ("trial 3", "solid", [5, 9], [0.2, 0.4]),
    ]


def test_best_so_far_has_a_gap_before_the_first_score() -> None:
    study = study_of(trial(None, {}, state=TrialState.FAIL), *search(3))
    best = figures_of(study)["Optimisation history"]["data"][1]
    assert best["y"][0] is None


@pytest.mark.parametrize(
    ("study", "titles"),
    [
        pytest.param(study_of(), [], id="no trials"),
        pytest.param(study_of(trial(0.1, {"x": 0.2, "y": 0.3})), [], id="one trial"),
        pytest.param(study_of(*[trial(0.1)] * 20), ALL[2:3], id="no parameters"),
        pytest.param(study_of(*search(30, "x")), ALL[2:3], id="one parameter"),
        pytest.param(study_of(*search(6)), ALL[1:3], id="few trials"),
        pytest.param(study_of(*search(6, "abcdefghi")), ALL[2:3], id="few trials, many parameters"),
        pytest.param(
            study_of(*[trial(0.0, t.params) for t in search(30)]), ALL[2:3], id="equal scores"
        ),
        pytest.param(
            study_of(*[trial(t.value, {"x": 0.5, "y": 0.5}) for t in search(30)]),
            ALL[2:3],
            id="equal parameters",
        ),
        pytest.param(
            study_of(*[trial(None, t.params, state=TrialState.PRUNED) for t in search(30)]),
            [],
            id="all pruned",
        ),
        pytest.param(
            study_of(*[trial(None, t.params, state=TrialState.FAIL) for t in search(30)]),
            [],
            id="all failed",
        ),
        pytest.param(
            study_of(*search(30, origin="label_consistency")), ALL[2:3], id="baselines only"
        ),
        pytest.param(
            study_of(*search(12), trial(math.inf, {"x": 1.0, "y": 1.0, "z": 1.0})),
            ALL[:3],
            id="an infinite score",
        ),
        pytest.param(
            study_of(
                *[trial(t.value, {**t.params, "c": "ab"[i % 2]}) for i, t in enumerate(search(30))]
            ),
            ALL[:3],
            id="a choice",
        ),
        pytest.param(
            study_of(*[trial(t.value, t.params, intermediate_values={3: 0.1}) for t in search(30)]),
            ALL[:3],
            id="one rung",
        ),
    ],
)
def test_a_figure_that_makes_no_sense_is_left_out(study: optuna.Study, titles: list[str]) -> None:
    assert list(figures_of(study)) == titles


def test_foreign_distributions_are_drawn() -> None:
    def objective(one: optuna.Trial) -> float:
        n = one.suggest_int("n", 1, 64, log=True)
        size = one.suggest_categorical("size", [50, 100, 200])
        switch = one.suggest_categorical("switch", [True, False])
        for step in range(3):
            one.report(step * n, step)
        return n / size + switch

    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=25)
    assert isinstance(study.trials[0].distributions["n"], IntDistribution)
    assert list(figures_of(study)) == ALL


def test_two_objectives_have_a_pareto_front() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(
        create_trial(
            values=[t.params["x"], t.params["y"]], params=t.params, distributions=t.distributions
        )
        for t in search(10)
    )
    figure = figures_of(study)["Pareto front"]
    assert sum(len(numbers(trace["x"])) for trace in figure["data"]) == 10


@pytest.mark.parametrize("count", [2, 3])
def test_many_objectives_and_few_trials_have_no_figure(count: int) -> None:
    study = optuna.create_study(directions=["maximize"] * count)
    assert figures_of(study) == {}


def test_a_real_search_has_all_figures_every_time_the_same(tmp_path: Path) -> None:
    ledger = Ledger(
        sqlite_url(tmp_path / "study.db"), "digits", load_space("digits"), Plan(24, 4, 1), (5, 20)
    )
    while proposal := ledger.next_proposal():
        score = -abs(math.log(proposal.hyperparameters.sigma / 0.3))
        pruned = ledger.report(proposal.number, 5, score - 0.1, 1.0)
        ended = result(score - 0.1, 5) if pruned else result(score, 20)
        if not pruned:
            ledger.report(proposal.number, 20, score, 2.0)
        ledger.tell(proposal.number, ended)
    states = {trial.state for trial in ledger.study.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED}
    write_insight(tmp_path, ledger.study, "ACR")
    text = (tmp_path / INSIGHT).read_text()
    assert list(json.loads(text)) == ALL
    write_insight(tmp_path, ledger.study, "ACR")
    assert (tmp_path / INSIGHT).read_text() == text
    assert not list(tmp_path.glob(".*tmp"))
