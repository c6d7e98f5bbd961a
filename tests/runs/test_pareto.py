"""The search for the trade-off of clean accuracy and radius, from ledger to export."""

import json
import math
from pathlib import Path

import optuna
import pytest

from results.verification import verify
from tests.support.ledgers import drive, finish, open_ledger, outcomes, result
from tests.support.runs import SETTING, TINY, VARIANTS, Launcher, tables
from trainables.decrop.config import DecropConfig
from tuning.config import RunConfig, make_config
from tuning.errors import ConfigError
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.pareto import front
from tuning.study.points import Proposal

optuna.logging.set_verbosity(optuna.logging.WARNING)


def open_pareto(folder: Path, **options: object) -> Ledger:
    return open_ledger(folder, pareto=True, scheduler="none", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("sampler", ["gp", "random", "tpe"])
def test_trials_have_two_values_and_a_resumed_study_proposes_the_same(
    tmp_path: Path, sampler: str
) -> None:
    (tmp_path / "killed").mkdir()
    whole = open_pareto(tmp_path, trials=8, sampler=sampler)
    drive(whole, workers=2)
    drive(open_pareto(tmp_path / "killed", trials=8, sampler=sampler), 2, stop_after=16)
    resumed = open_pareto(tmp_path / "killed", trials=8, sampler=sampler)
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
    ledger = open_pareto(tmp_path, trials=70, cohort=4)
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


def config(**values: object) -> RunConfig:
    return make_config({"name": "x", **values})


def test_a_pareto_search_prunes_nothing_unless_asked_to_which_is_refused() -> None:
    assert config().scheduler == "asha"
    assert config(objective="pareto").scheduler == "none"
    assert config(objective="pareto", scheduler="none").scheduler == "none"
    with pytest.raises(ConfigError, match="--scheduler: asha compares a single score"):
        config(objective="pareto", scheduler="asha")


def test_a_minimum_of_accuracy_needs_a_front_to_pick_from() -> None:
    assert config(objective="pareto", min_accuracy=0.9).min_accuracy == 0.9
    with pytest.raises(ConfigError, match=r"--min-accuracy: .* --objective pareto"):
        config(min_accuracy=0.9)
    with pytest.raises(ConfigError, match=r"--min-accuracy: .*less than or equal to 1"):
        config(objective="pareto", min_accuracy=90)


def test_the_front_is_certified_and_its_members_are_picked_by_one_flag(launcher: Launcher) -> None:
    common = ["--concurrency=2", "--json"]
    # With quantised noise as well, which no other of these runs has.
    pareto = ["--objective=pareto", "--confirm-top=3", "--noise=quantised"]
    run = launcher.run("--name=pareto", *pareto, *common, *TINY)
    members = [row for row in run.summary if row["variant"].startswith("front-")]
    assert [row["variant"] for row in run.summary[:4]] == VARIANTS
    assert members
    assert [row["variant"] for row in members] == [f"front-{i + 1}" for i in range(len(members))]
    confirmation, certificates, of_front, *trials = tables(
        run.folder, ["confirmation", "certificates", "front", "trials"]
    )
    points = [(row["confirmed_accuracy"], row["confirmed_objective"]) for row in confirmation]
    assert {row["trial"] for row in members} == {confirmation[i]["number"] for i in front(points)}
    accuracies = [row["tuning_accuracy"] for row in members]
    assert accuracies == sorted(accuracies, reverse=True)
    images = {row["image_index"] for row in certificates}
    for row in members:
        mine = [r for r in of_front if r["variant"] == row["variant"]]
        assert {r["image_index"] for r in mine} == images
        assert (run.folder / SETTING / "certificates" / f"{row['variant']}.tsv").exists()
    assert members[0]["variant"] in (run.folder / "report.html").read_text()

    most_accurate = members[0]
    flag = f"--min-accuracy={most_accurate['tuning_accuracy']}"
    picked = launcher.run("--name=pareto", "--resume", flag, *common)
    best = next(row for row in picked.summary if row["variant"] == "best")
    assert best["tuning_accuracy"] >= most_accurate["tuning_accuracy"]
    exported = json.loads((run.folder / SETTING / "smoothed_classifier/config.json").read_text())
    assert (exported["sigma"], exported["pixel_steps"]) == (best["sigma"], 16)
    assert verify(run.folder) == (12 * len(picked.summary), [])
    # Nothing was searched, trained or certified again.
    assert [row for row in picked.summary if row["variant"] != "best"] == [
        row for row in run.summary if row["variant"] != "best"
    ]
    assert tables(run.folder, ["trials"]) == trials
