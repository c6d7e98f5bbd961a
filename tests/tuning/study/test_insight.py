import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from results.files import INSIGHT
from results.insight import Insight
from search_spaces import load_space
from tests.support.ledgers import result
from tuning.study.database import sqlite_url
from tuning.study.insight import insight_of, write_insight
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

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


def shares(study: optuna.Study) -> dict[str, float]:
    return dict(insight_of(study, "ACR").importances)


def test_the_parameter_that_decides_the_score_is_the_most_important() -> None:
    found = shares(study_of(*search(60)))
    assert next(iter(found)) == "x"
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
    found = shares(study_of(*trials))
    assert found["x"] > found["z"] > 0.2 > 0.1 > found["y"]


@pytest.mark.parametrize("origin", ["label_consistency", "mse"])
def test_plain_denoised_smoothing_has_no_say_in_importances(origin: str) -> None:
    searched = [*search(39), trial(0.5, {"x": 0.5, "y": 0.5, "z": 0.5}, origin="published")]
    plain = [
        trial(9.0, {"x": 0.0, "y": 1.0, "z": number / 20}, origin=origin) for number in range(20)
    ]
    assert shares(study_of(*searched, *plain)) == shares(study_of(*searched))


def test_scores_of_all_trials_at_their_rungs_are_kept() -> None:
    trials = [
        trial(0.3, {}, intermediate_values={9: 0.3, 5: 0.1}, origin="published"),
        trial(None, {}, intermediate_values={5: 0.05}, state=TrialState.PRUNED),
        trial(None, {}, state=TrialState.FAIL),
        trial(0.4, {}, intermediate_values={5: math.nan, 9: 0.4}),
    ]
    found = insight_of(study_of(*trials)).scores
    assert found == {0: [(5, 0.1), (9, 0.3)], 1: [(5, 0.05)], 3: [(9, 0.4)]}


def test_conditional_parameters_are_kept() -> None:
    trials = [
        trial(t.value, t.params if t.params["y"] > 0.5 else {"x": t.params["x"], "z": 0.3})
        for t in search(40)
    ]
    assert set(shares(study_of(*trials))) == {"x", "y", "z"}


@pytest.mark.parametrize(
    "study",
    [
        pytest.param(study_of(), id="no trials"),
        pytest.param(study_of(trial(0.1, {"x": 0.2, "y": 0.3})), id="one trial"),
        pytest.param(study_of(*[trial(0.1)] * 20), id="no parameters"),
        pytest.param(study_of(*search(30, "x")), id="one parameter"),
        pytest.param(study_of(*search(6)), id="few trials"),
        pytest.param(study_of(*[trial(0.0, t.params) for t in search(30)]), id="equal scores"),
        pytest.param(
            study_of(*[trial(t.value, {"x": 0.5, "y": 0.5}) for t in search(30)]),
            id="equal parameters",
        ),
        pytest.param(
            study_of(*[trial(None, t.params, state=TrialState.PRUNED) for t in search(30)]),
            id="all pruned",
        ),
        pytest.param(
            study_of(*[trial(None, t.params, state=TrialState.FAIL) for t in search(30)]),
            id="all failed",
        ),
        pytest.param(study_of(*search(30, origin="label_consistency")), id="baselines only"),
    ],
)
def test_too_few_trials_have_no_importances(study: optuna.Study) -> None:
    assert insight_of(study, "ACR") == Insight("ACR")


@pytest.mark.parametrize(
    "study",
    [
        pytest.param(
            study_of(*search(12), trial(math.inf, {"x": 1.0, "y": 1.0, "z": 1.0})),
            id="an infinite score",
        ),
        pytest.param(
            study_of(
                *[trial(t.value, {**t.params, "c": "ab"[i % 2]}) for i, t in enumerate(search(30))]
            ),
            id="a choice",
        ),
        pytest.param(
            study_of(*[trial(t.value, t.params, intermediate_values={3: 0.1}) for t in search(30)]),
            id="one rung",
        ),
    ],
)
def test_unusual_trials_do_not_disturb_the_importances(study: optuna.Study) -> None:
    found = insight_of(study)
    assert next(iter(found.importances)) == "x"
    # All have the same rung, if any.
    assert found.scores == {}


def test_foreign_distributions_have_importances() -> None:
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
    found = insight_of(study)
    assert set(found.importances) == {"n", "size", "switch"}
    assert len(found.scores) == 25


def test_of_two_objectives_the_first_one_counts() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.add_trials(
        create_trial(
            values=[t.params["x"], t.params["y"]], params=t.params, distributions=t.distributions
        )
        for t in search(40)
    )
    assert next(iter(insight_of(study).importances)) == "x"


def test_a_real_search_teaches_the_same_every_time(tmp_path: Path) -> None:
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
    learnt = Insight.of(json.loads(text))
    assert learnt == insight_of(ledger.study, "ACR")
    assert sum(learnt.importances.values()) == pytest.approx(1)
    assert set(learnt.scores) == {t.number for t in ledger.study.trials if t.intermediate_values}
    write_insight(tmp_path, ledger.study, "ACR")
    assert (tmp_path / INSIGHT).read_text() == text
    assert not list(tmp_path.glob(".*tmp"))
