import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from search_spaces import load_space
from tuning.ledger import Ledger, Plan, Proposal, TrialRecord, sqlite_url

SPACE = load_space("digits")
BASELINES = 1 + 2 * len(SPACE.sweep)
RUNGS = (25, 75, 200)
Score = Callable[[dict[str, object]], float]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_ledger(
    folder: Path, trials: int = 8, cohort: int = 3, seed: int = 1, **options: Any
) -> Ledger:
    given = {name: options.pop(name) for name in ("sampler", "scheduler") if name in options}
    plan = Plan(trials, cohort, seed, **given)
    options = {"name": "digits", "space": SPACE} | options
    return Ledger(sqlite_url(folder / "study.db"), plan=plan, rungs=RUNGS, **options)


def by_sigma(hyperparameters: dict[str, object]) -> float:
    sigma = hyperparameters["sigma"]
    assert isinstance(sigma, float)
    return 1 - (sigma - 0.3) ** 2


def finish(ledger: Ledger, proposal: Proposal, score: Score = by_sigma) -> None:
    """Run one trial to its end, as a worker would: a rung at 25 epochs, the end at 200."""
    value = score(proposal.hyperparameters)
    pruned = ledger.report(proposal.number, 25, value - 0.1, 0.5)
    ledger.tell(
        proposal.number,
        objective=value - 0.1 if pruned else value,
        epochs=25 if pruned else 200,
        complete=not pruned,
        seconds=1.5,
        node="10.0.0.1",
    )


def drive(ledger: Ledger, workers: int, last_first: bool = False, stop_after: int = 10**9) -> None:
    """Run trials on so many workers; the first or the last one started ends first."""
    running: list[Proposal] = []
    for _ in range(stop_after):
        while len(running) < workers and (proposal := ledger.next_proposal()):
            running.append(proposal)
        if not running:
            return
        finish(ledger, running.pop(-1 if last_first else 0))


def outcomes(ledger: Ledger) -> dict[int, tuple[str, dict[str, object], int]]:
    settled = [r for r in ledger.records() if not r.error]
    return {r.root: (r.state, r.hyperparameters, r.seed) for r in settled}


@pytest.mark.parametrize(("workers", "last_first"), [(2, False), (3, True), (9, True)])
def test_proposals_do_not_depend_on_the_workers(
    tmp_path: Path, workers: int, last_first: bool
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "many").mkdir()
    one, many = open_ledger(tmp_path / "one"), open_ledger(tmp_path / "many")
    drive(one, workers=1)
    drive(many, workers, last_first)
    assert one.finished
    assert many.finished
    assert outcomes(one) == outcomes(many)


@pytest.mark.parametrize("stop_after", [1, 5, 6, 7, 8, 12])
def test_resumed_study_proposes_what_an_undisturbed_one_would(
    tmp_path: Path, stop_after: int
) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = open_ledger(tmp_path / "whole")
    drive(whole, workers=2)
    drive(open_ledger(tmp_path / "killed"), workers=2, stop_after=stop_after)
    resumed = open_ledger(tmp_path / "killed")
    abandoned = resumed.reconcile()
    drive(resumed, workers=2)
    assert outcomes(resumed) == outcomes(whole)
    failed = [r for r in resumed.records() if r.state == "failed"]
    assert len(failed) == abandoned
    assert all("interrupted" in r.error for r in failed)
    settled = [r.root for r in resumed.records() if not r.error]
    assert sorted(settled) == list(range(BASELINES + 7))


def test_first_trials_are_published_and_the_sweep(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    drive(ledger, workers=2)
    records = ledger.records()
    assert [r.origin for r in records[:BASELINES]] == (
        ["published"] + ["label_consistency"] * 5 + ["mse"] * 5
    )
    assert records[0].hyperparameters == {**SPACE.published, **SPACE.fixed}
    for record, sigma in zip(records[1:BASELINES], 2 * SPACE.sweep, strict=True):
        assert record.hyperparameters["sigma"] == sigma
        assert record.hyperparameters["w_cosine"] == record.hyperparameters["w_mmd"] == 0
        assert record.hyperparameters["reversal_strength"] == 0


def test_first_cohort_is_never_pruned_and_later_ones_are(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=20)
    drive(ledger, workers=2)
    records = ledger.records()
    assert all(r.state == "complete" for r in records[:BASELINES])
    assert any(r.state == "pruned" for r in records[BASELINES:])


def test_pruned_trial_keeps_its_intermediate_values(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=20)
    drive(ledger, workers=1)
    study = optuna.load_study(study_name="digits", storage=sqlite_url(tmp_path / "study.db"))
    pruned = [t for t in study.trials if t.state == TrialState.PRUNED]
    assert pruned
    assert all(list(t.intermediate_values) == [25] for t in pruned)


@pytest.mark.parametrize("objective", [math.nan, math.inf, None])
def test_score_that_is_no_number_is_told_as_a_failure(
    tmp_path: Path, objective: float | None
) -> None:
    ledger = open_ledger(tmp_path)
    proposal = ledger.next_proposal()
    assert proposal is not None
    ledger.tell(
        proposal.number, objective=objective, epochs=9, complete=True, seconds=0.0, node="n"
    )
    (record,) = ledger.records()
    assert (record.state, record.epochs) == ("failed", 9)
    assert str(objective) in record.error


def test_failed_trial_is_not_repeated_and_keeps_its_reason(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    proposal = ledger.next_proposal()
    assert proposal is not None
    ledger.tell(
        proposal.number,
        objective=None,
        epochs=3,
        complete=False,
        seconds=1.0,
        node="n",
        error="loss term mmd became nan in epoch 3",
    )
    drive(ledger, workers=2)
    first = [r for r in ledger.records() if r.root == 0]
    assert [(r.state, r.error) for r in first] == [
        ("failed", "loss term mmd became nan in epoch 3")
    ]
    assert ledger.finished


def test_more_trials_extend_a_finished_study(tmp_path: Path) -> None:
    drive(open_ledger(tmp_path, trials=4), workers=2)
    before: list[TrialRecord] = open_ledger(tmp_path, trials=4).records()
    longer = open_ledger(tmp_path, trials=6)
    assert longer.open_roots == 2
    drive(longer, workers=2)
    assert longer.records()[: len(before)] == before
    assert len(longer.records()) == len(before) + 2


def test_cohort_is_decided_by_the_first_start(tmp_path: Path) -> None:
    assert open_ledger(tmp_path, cohort=3).cohort == 3
    assert open_ledger(tmp_path, cohort=9).cohort == 3


def test_seed_changes_the_proposals(tmp_path: Path) -> None:
    ledgers = [open_ledger(tmp_path, trials=4, name=f"{s}", seed=s) for s in (1, 2)]
    for ledger in ledgers:
        drive(ledger, workers=1)
    first, second = (ledger.records()[-1].hyperparameters for ledger in ledgers)
    assert first != second
