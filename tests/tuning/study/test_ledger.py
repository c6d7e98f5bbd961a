import math
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from tests.support.ledgers import (
    BASELINES,
    SPACE,
    by_sigma,
    drive,
    finish,
    open_ledger,
    outcomes,
    result,
    undisturbed,
)
from trainables.decrop.config import DecropConfig
from tuning.errors import ConfigError
from tuning.study.attempts import TrialRecord, read_hyperparameters
from tuning.study.database import DurableStudy, sqlite_url
from tuning.study.ledger import INTERRUPTIONS
from tuning.study.points import Proposal


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(("workers", "last_first"), [(1, False), (3, True), (9, True)])
def test_proposals_do_not_depend_on_the_workers(
    tmp_path: Path, workers: int, last_first: bool
) -> None:
    ledger = open_ledger(tmp_path)
    drive(ledger, workers, last_first)
    assert ledger.finished
    assert outcomes(ledger) == undisturbed()


@pytest.mark.parametrize("stop_after", [1, BASELINES, BASELINES + 2, BASELINES + 5])
def test_resumed_study_proposes_what_an_undisturbed_one_would(
    tmp_path: Path, stop_after: int
) -> None:
    drive(open_ledger(tmp_path), workers=2, stop_after=stop_after)
    resumed = open_ledger(tmp_path)
    abandoned = resumed.reconcile()
    drive(resumed, workers=2)
    assert outcomes(resumed) == undisturbed()
    failed = [r for r in resumed.attempts.records() if r.state == "failed"]
    assert len(failed) == abandoned
    assert all("interrupted" in r.error for r in failed)
    settled = [r.root for r in resumed.attempts.records() if not r.error]
    assert sorted(settled) == list(range(BASELINES + 7))


def test_first_trials_are_the_baselines_each_at_every_sigma_of_the_sweep(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    drive(ledger, workers=2)
    records = ledger.attempts.records()
    assert [r.origin for r in records[:BASELINES]] == (
        ["published"] + ["published_sigma"] * 4 + ["label_consistency"] * 5 + ["mse"] * 5
    )
    assert all(r.is_baseline for r in records[:BASELINES])
    published = DecropConfig(**{**SPACE.published, **SPACE.fixed})
    assert records[0].hyperparameters == published
    others = [sigma for sigma in SPACE.sweep if sigma != published.sigma]
    for record, sigma in zip(records[1:5], others, strict=True):
        assert record.hyperparameters == published.model_copy(update={"sigma": sigma})
    for record, sigma in zip(records[5:BASELINES], 2 * SPACE.sweep, strict=True):
        assert record.hyperparameters.sigma == sigma
        assert record.hyperparameters.w_cosine == record.hyperparameters.w_mmd == 0
        assert record.hyperparameters.reversal_strength == 0


def test_baselines_are_never_pruned_and_others_are(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=20)
    drive(ledger, workers=2)
    records = ledger.attempts.records()
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
    ledger.tell(proposal.number, result(objective, 9))
    (record,) = ledger.attempts.records()
    assert (record.state, record.epochs) == ("failed", 9)
    assert str(objective) in record.error


def test_failed_trial_is_not_repeated_and_keeps_its_reason(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    proposal = ledger.next_proposal()
    assert proposal is not None
    ledger.tell(proposal.number, result(None, 3, error="loss term mmd became nan in epoch 3"))
    drive(ledger, workers=2)
    first = [r for r in ledger.attempts.records() if r.root == 0]
    assert [(r.state, r.error) for r in first] == [
        ("failed", "loss term mmd became nan in epoch 3")
    ]
    assert ledger.finished


def test_a_trial_that_ends_all_others_again_and_again_fails(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    for _ in range(1 + INTERRUPTIONS):
        assert ledger.open_points == len(ledger.points)
        first, second = ledger.next_proposal(), ledger.next_proposal()
        assert first is not None
        assert second is not None
        ledger.report(first.number, 25, 0.1, 0.5)
        ledger.interrupt_all("no memory")
    roots = [record.root for record in ledger.attempts.records() if record.error == "no memory"]
    assert roots == [0, 1]
    # Those that waited were not to blame.
    third = ledger.next_proposal()
    assert third is not None
    finish(ledger, third)
    assert {r.root for r in ledger.attempts.records() if "abandoned" not in r.error} == {0, 1, 2}


def test_more_trials_extend_a_finished_study(tmp_path: Path) -> None:
    drive(open_ledger(tmp_path, trials=4), workers=2)
    before: list[TrialRecord] = open_ledger(tmp_path, trials=4).attempts.records()
    longer = open_ledger(tmp_path, trials=6)
    assert longer.open_points == 2
    drive(longer, workers=2)
    assert longer.attempts.records()[: len(before)] == before
    assert len(longer.attempts.records()) == len(before) + 2


def test_virtual_workers_are_decided_by_the_first_start(tmp_path: Path) -> None:
    drive(open_ledger(tmp_path, virtual_workers=3), workers=2, stop_after=4)
    resumed = open_ledger(tmp_path, virtual_workers=9)
    resumed.reconcile()
    drive(resumed, workers=9)
    assert outcomes(resumed) == undisturbed(virtual_workers=3)


def test_a_study_that_was_begun_with_cohorts_is_refused(tmp_path: Path) -> None:
    study = DurableStudy(
        sqlite_url(tmp_path / "study.db"), "digits", [optuna.study.StudyDirection.MAXIMIZE]
    )
    study.set_attribute("cohort", 4)
    with pytest.raises(ConfigError, match="begun by an earlier version"):
        open_ledger(tmp_path)


def test_seed_changes_the_proposals(tmp_path: Path) -> None:
    ledgers = [open_ledger(tmp_path, trials=4, name=f"{s}", seed=s) for s in (1, 2)]
    for ledger in ledgers:
        drive(ledger, workers=1)
    first, second = (ledger.attempts.records()[-1].hyperparameters for ledger in ledgers)
    assert first != second


def test_start_points_of_the_space_come_first(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    drive(ledger, workers=2)
    first = ledger.attempts.records()[BASELINES]
    assert first.origin == "start"
    assert first.hyperparameters.model_dump().items() >= SPACE.start[0].items()


def test_without_the_points_it_waits_for_only_the_baselines_run(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, awaits_transfer=True)
    drive(ledger, workers=2)
    assert ledger.baselines_finished
    assert len(ledger.attempts.records()) == BASELINES
    point = {**SPACE.published, **SPACE.fixed, "sigma": 0.3, "w_mmd": 0.0}
    ledger.transfer([point])
    ledger.transfer([{**point, "sigma": 0.4}])
    drive(ledger, workers=2)
    transferred = [
        r.hyperparameters for r in ledger.attempts.records() if r.origin == "transferred"
    ]
    assert transferred == [DecropConfig(**point)]
    resumed = open_ledger(tmp_path, trials=12, awaits_transfer=True)
    drive(resumed, workers=2)
    assert resumed.finished


def test_seconds_of_abandoned_attempts_count(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    proposal = ledger.next_proposal()
    assert proposal is not None
    ledger.report(proposal.number, 25, 0.2, 3.5)
    resumed = open_ledger(tmp_path)
    resumed.reconcile()
    assert resumed.seconds == 3.5
    assert open_ledger(tmp_path).seconds == 3.5


def test_values_that_do_not_go_together_fail_without_a_trial(tmp_path: Path) -> None:
    weights = ("w_label", "w_mse", "w_cosine", "w_mmd")
    nothing = SPACE.model_copy(update={"start": (dict.fromkeys(weights, 0.0),)})
    ledger = open_ledger(tmp_path, space=nothing)
    drive(ledger, workers=2)
    record = ledger.attempts.records()[BASELINES]
    assert (record.origin, record.state) == ("start", "failed")
    assert "every loss weight is 0" in record.error
    assert ledger.finished


def test_another_search_space_is_refused_with_the_difference(tmp_path: Path) -> None:
    open_ledger(tmp_path)
    narrow = SPACE.parameters["mix"].model_copy(update={"high": 0.9})
    other = SPACE.model_copy(update={"parameters": {**SPACE.parameters, "mix": narrow}})
    with pytest.raises(ConfigError, match=r"parameters\.mix\.high was 1\.0, and is now 0\.9"):
        open_ledger(tmp_path, space=other)


def test_a_study_of_another_run_is_refused(tmp_path: Path) -> None:
    open_ledger(tmp_path, run="mine")
    open_ledger(tmp_path, run="mine")
    with pytest.raises(ConfigError, match="belongs to a different run"):
        open_ledger(tmp_path, run="yours")


@pytest.mark.parametrize("stop_after", [0, BASELINES + 2, BASELINES + 7, BASELINES + 11])
def test_what_an_attempt_had_reported_counts_for_the_next_one(
    tmp_path: Path, stop_after: int
) -> None:
    killed = open_ledger(tmp_path, trials=20)
    drive(killed, workers=2, stop_after=stop_after)
    killed.next_proposal()
    # A rung was reported, and the driver died before it acted on that.
    number = min(killed._running)
    root = killed.study.trials[number].user_attrs["root"]
    value = by_sigma(read_hyperparameters(killed.study.trials[number])) - 0.1
    pruned = killed.report(number, 25, value, 1.0)
    resumed = open_ledger(tmp_path, trials=20)
    resumed.reconcile()
    again: list[Proposal] = []
    while proposal := resumed.next_proposal():
        again.append(proposal)
    mine = [p for p in again if number in p.abandoned]
    assert len(mine) == (0 if pruned else 1)
    for proposal in again:
        finish(resumed, proposal)
    drive(resumed, workers=2)
    assert outcomes(resumed) == undisturbed(trials=20)
    (record,) = [r for r in resumed.attempts.records() if r.root == root and not r.error]
    assert (record.state == "pruned") == pruned


def test_highest_is_the_best_objective_of_complete_trials(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=12)
    assert ledger.attempts.highest is None
    while proposal := ledger.next_proposal():
        # All below zero, which an objective of the user's own may be.
        finish(ledger, proposal, lambda values: by_sigma(values) - 2)
        complete = [r.objective for r in ledger.attempts.records() if r.state == "complete"]
        assert ledger.attempts.highest == max(
            objective for objective in complete if objective is not None
        )
    assert ledger.finished
    assert open_ledger(tmp_path, trials=12).attempts.highest == ledger.attempts.highest
