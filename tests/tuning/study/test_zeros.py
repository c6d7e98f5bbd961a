"""The database of a study shows what trials really had; samplers see what they proposed."""

from pathlib import Path

import optuna
import pytest
from optuna.distributions import FloatDistribution

from search_spaces import SearchSpace
from tests.support.ledgers import drive, finish, open_ledger, outcomes
from tuning.study.database import MEANT, sqlite_url
from tuning.study.zeros import PROPOSED

optuna.logging.set_verbosity(optuna.logging.WARNING)

SPACE = SearchSpace.model_validate(
    {
        "name": "zeros",
        "published": {
            "sigma": 0.25,
            "w_mmd": 4.0,
            "w_mse": 0.0,
            "stages": 2,
            "learning_rate": 1e-3,
        },
        "parameters": {
            "sigma": {"low": 0.12, "high": 0.5, "log": True},
            "w_mmd": {"low": 0.5, "high": 8.0, "log": True, "or_zero": True},
            "w_mse": {"low": 0.5, "high": 2.0, "or_zero": True},
            "stages": {"choices": [2, 3]},
            "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True, "when": {"w_mmd": "nonzero"}},
        },
        "start": [{"w_mmd": 0.0}],
        "sweep": [0.25],
    }
)


def kept(folder: Path) -> optuna.Study:
    return optuna.load_study(study_name="digits", storage=sqlite_url(folder / "study.db"))


def test_every_parameter_in_the_database_has_the_value_of_its_trial(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=20, space=SPACE, sampler="random")
    drive(ledger, workers=2)
    trials = kept(tmp_path).trials
    for trial, record in zip(trials, ledger.attempts.records(), strict=True):
        for name, value in trial.params.items():
            assert value == getattr(record.hyperparameters, name)
            shown = trial.distributions[name]
            assert shown._contains(shown.to_internal_repr(value))
    zeros = [t for t in trials if t.params["w_mse"] == 0]
    assert 0 < len(zeros) < len(trials)
    # As in Optuna, a trial lacks what it does not vary: plain smoothing has one stage.
    without = [t.user_attrs["origin"] for t in trials if "stages" not in t.params]
    assert without == ["label_consistency", "mse"]
    with_rate = [bool(t.params["w_mmd"]) for t in trials if "learning_rate" in t.params]
    assert with_rate
    assert all(with_rate)


def test_a_parameter_has_the_same_range_in_all_trials(tmp_path: Path) -> None:
    drive(open_ledger(tmp_path, trials=6, space=SPACE), workers=2)
    trials = kept(tmp_path).trials
    assert {t.distributions["w_mmd"] for t in trials} == {FloatDistribution(0.0, 8.0)}
    assert {t.distributions["sigma"] for t in trials} == {FloatDistribution(0.12, 0.5, log=True)}


def test_the_sampler_sees_its_own_proposals_after_a_restart(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=6, space=SPACE)
    drive(ledger, workers=2)
    mine = ledger.study.trials
    again = open_ledger(tmp_path, trials=6, space=SPACE).study.trials
    assert [t.params for t in again] == [t.params for t in mine]
    assert [t.distributions for t in again] == [t.distributions for t in mine]
    assert all(t.params["w_mse"] > 0 for t in again)
    assert all(PROPOSED not in t.system_attrs for t in again)


@pytest.mark.parametrize("sampler", ["tpe", "gp"])
def test_a_resumed_study_proposes_what_an_undisturbed_one_would(
    tmp_path: Path, sampler: str
) -> None:
    (tmp_path / "killed").mkdir()
    options = {"trials": 16, "space": SPACE, "sampler": sampler}
    whole = open_ledger(tmp_path, **options)  # type: ignore[arg-type]
    drive(whole, workers=2)
    for seen in (7, 5, 100):
        resumed = open_ledger(tmp_path / "killed", **options)  # type: ignore[arg-type]
        resumed.reconcile()
        drive(resumed, workers=2, stop_after=seen)
    assert outcomes(resumed) == outcomes(whole)


def test_a_study_of_an_earlier_version_goes_on_as_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        # It did not have the attribute.
        earlier.setattr("tuning.study.database.MEANT", "unknown then")
        ledger = open_ledger(tmp_path, trials=9, space=SPACE)
        earlier.setattr("tuning.study.database.DurableStudy._shown", lambda study, trial: trial)
        drive(ledger, workers=1, stop_after=4)
    resumed = open_ledger(tmp_path, trials=9, space=SPACE)
    drive(resumed, workers=1)
    assert MEANT not in kept(tmp_path).user_attrs
    assert len({t.distributions["w_mmd"] for t in kept(tmp_path).trials}) == 1
    assert all(PROPOSED not in t.system_attrs for t in kept(tmp_path).trials)
    (tmp_path / "new").mkdir()
    new = open_ledger(tmp_path / "new", trials=9, space=SPACE)
    drive(new, workers=1)
    assert outcomes(resumed) == outcomes(new)


def test_objectives_have_names(tmp_path: Path) -> None:
    proposal = open_ledger(tmp_path, name="one").next_proposal()
    assert proposal is not None
    two = open_ledger(tmp_path, name="two", pareto=True, scheduler="none")
    first = two.next_proposal()
    assert first is not None
    finish(two, first)
    url = sqlite_url(tmp_path / "study.db")
    named = [optuna.load_study(study_name=n, storage=url).metric_names for n in ("one", "two")]
    assert named == [["objective"], ["objective", "clean accuracy"]]
