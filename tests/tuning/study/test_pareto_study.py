"""Studies with two values, neither of which is given up for the other."""

import math
from pathlib import Path

import optuna
import pytest

from tests.support.ledgers import BASELINES, drive, finish, open_ledger, outcomes, result
from trainables.decrop.config import DecropConfig
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.pareto import front
from tuning.study.points import Proposal

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_pareto(folder: Path, **options: object) -> Ledger:
    return open_ledger(folder, pareto=True, scheduler="none", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["gp", "tpe"])
def test_trials_have_two_values_and_a_resumed_study_proposes_the_same(
    tmp_path: Path, sampler: str
) -> None:
    (tmp_path / "killed").mkdir()
    whole = open_pareto(tmp_path, trials=5, sampler=sampler)
    drive(whole, workers=2)
    drive(open_pareto(tmp_path / "killed", trials=5, sampler=sampler), 2, stop_after=BASELINES + 2)
    resumed = open_pareto(tmp_path / "killed", trials=5, sampler=sampler)
    resumed.reconcile()
    drive(resumed, workers=2)
    assert outcomes(resumed) == outcomes(whole)
    assert {record.state for record in whole.attempts.records()} == {"complete"}
    kept = optuna.load_study(study_name="digits", storage=sqlite_url(tmp_path / "study.db"))
    for trial, record in zip(kept.trials, whole.attempts.records(), strict=True):
        assert trial.values == [record.objective, record.accuracy]
        assert trial.intermediate_values


def trade_off(hyperparameters: DecropConfig) -> float:
    """Larger for larger sigmas, which cost accuracy, and for one learning rate, which does not."""
    return hyperparameters.sigma - abs(math.log(hyperparameters.learning_rate / 0.004)) / 10


def test_tpe_learns_what_helps_one_objective_and_keeps_both_ends_of_the_other(
    tmp_path: Path,
) -> None:
    ledger = open_pareto(tmp_path, trials=70, virtual_workers=4)
    while proposal := ledger.next_proposal():
        finish(ledger, proposal, trade_off)
    searched = [r.hyperparameters for r in ledger.attempts.records() if r.origin == "search"]
    off = [abs(math.log(h.learning_rate / 0.004)) for h in searched]
    assert sum(off[-20:]) < 0.7 * sum(off[:20])
    late = [h.sigma for h in searched[-30:]]
    assert min(late) < 0.16
    assert max(late) > 0.4


def test_the_best_that_another_setting_takes_over_are_of_the_front(tmp_path: Path) -> None:
    ledger = open_pareto(tmp_path, trials=20, sampler="random")
    drive(ledger, workers=2)
    searched = [r for r in ledger.attempts.records() if not r.is_baseline]
    members = front([(r.accuracy or 0, r.objective or 0) for r in searched])
    assert len(members) > 3
    best = [searched[i].hyperparameters for i in members]
    assert all(
        DecropConfig.model_validate(point) in best for point in ledger.attempts.best(3, pareto=True)
    )


def test_values_that_do_not_go_together_fail_without_scores(tmp_path: Path) -> None:
    ledger = open_pareto(tmp_path)
    proposal = ledger.next_proposal()
    assert isinstance(proposal, Proposal)
    ledger.tell(proposal.number, result(math.nan, 3, accuracy=math.nan))
    (record,) = ledger.attempts.records()
    assert (record.state, record.objective, record.accuracy) == ("failed", None, None)
