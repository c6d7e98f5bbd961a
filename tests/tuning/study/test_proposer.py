from collections.abc import Mapping
from pathlib import Path

import pytest
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from tests.support.ledgers import BASELINES, drive, finish, open_ledger, outcomes, undisturbed
from tuning.study.database import DurableStudy
from tuning.study.points import Proposal
from tuning.study.proposer import Proposer


def suggest(trial: Trial) -> Mapping[str, float]:
    return {"kept": trial.suggest_float("x", 0, 1)}


def ended(trial: FrozenTrial, values: list[float]) -> FrozenTrial:
    return FrozenTrial(
        number=99,
        trial_id=99,
        state=TrialState.COMPLETE,
        value=None,
        values=values,
        datetime_start=trial.datetime_start,
        datetime_complete=trial.datetime_start,
        params=trial.params,
        distributions=trial.distributions,
        user_attrs=trial.user_attrs,
        system_attrs=trial.system_attrs,
        intermediate_values={3: values[0]},
    )


class Seeing(RandomSampler):
    """Remembers what it saw of the study at its last proposal."""

    def before_trial(self, study: object, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)  # type: ignore[attr-defined]
        self.saw = [(t.number, t.state, t.values, t.params) for t in trials[:-1]]


def test_a_sampler_sees_the_same_whether_roots_were_proposed_learned_or_recalled() -> None:
    def proposer() -> Proposer:
        return Proposer([StudyDirection.MAXIMIZE])

    asked, sampler = proposer(), Seeing(0)
    first, second = (asked.propose(sampler, {}, suggest) for _ in range(2))
    asked.learn([ended(first, [0.5])])
    asked.propose(sampler, {}, suggest)

    recalling, other = proposer(), Seeing(0)
    recalling.learn([ended(first, [0.5])])
    recalling.recall(ended(second, [0.7]))
    assert recalling.next_root == 2
    recalling.propose(other, {}, suggest)
    assert other.saw == sampler.saw
    assert [state for _, state, *_ in other.saw] == [TrialState.COMPLETE, TrialState.RUNNING]


def test_a_point_is_evaluated_as_it_is() -> None:
    proposed = Proposer([StudyDirection.MAXIMIZE]).propose(RandomSampler(0), {"x": 0.25}, suggest)
    assert proposed.params == {"x": 0.25}
    assert proposed.user_attrs["kept"] == 0.25


def test_a_parameter_whose_kind_changed_is_refused() -> None:
    proposer = Proposer([StudyDirection.MAXIMIZE])
    proposer.propose(RandomSampler(0), {}, suggest)
    with pytest.raises(ValueError, match="Cannot set different distribution kind"):
        proposer.propose(RandomSampler(0), {}, lambda trial: {"x": trial.suggest_int("x", 0, 1)})


@pytest.mark.parametrize("root", [4, BASELINES + 1, BASELINES + 5])
def test_a_root_that_is_repeated_alone_changes_no_later_proposal(tmp_path: Path, root: int) -> None:
    disturbed = open_ledger(tmp_path, trials=20)
    running: list[Proposal] = []
    while True:
        while len(running) < 2 and (proposal := disturbed.next_proposal()):
            running.append(proposal)
        if not running:
            break
        proposal = running.pop(0)
        trial = disturbed.study.trials[proposal.number]
        if trial.user_attrs["root"] == root and not proposal.abandoned:
            disturbed.interrupt(proposal.number, "the host died")
        else:
            finish(disturbed, proposal)
    assert [r.root for r in disturbed.attempts.records() if r.error] == [root]
    assert outcomes(disturbed) == undisturbed(trials=20)


@pytest.mark.parametrize("directions", [1, 2])
def test_of_many_roots_the_latest_and_the_best_are_in_sight(
    monkeypatch: pytest.MonkeyPatch, directions: int
) -> None:
    monkeypatch.setattr("tuning.study.proposer.WINDOW", 10)
    monkeypatch.setattr("tuning.study.proposer.BEST", 3)
    proposer, sampler = Proposer([StudyDirection.MAXIMIZE] * directions), Seeing(0)
    settled: list[FrozenTrial] = []
    for root in range(45):
        assert proposer.next_root == root
        trial = proposer.propose(sampler, {"x": root / 100}, suggest)
        # The later root of two equal ones is the better one, and 7 is the best.
        score = 10.0 if root == 7 else root % 10 + root / 100
        settled.append(ended(trial, [score] * directions))
        proposer.learn(settled)
    proposer.propose(sampler, {}, suggest)
    roots = [round(100 * params["x"]) for *_, params in sampler.saw]
    assert roots == [7, 19, 29, *range(30, 45)]

    resumed, other = Proposer([StudyDirection.MAXIMIZE] * directions), Seeing(0)
    resumed.learn(settled)
    resumed.propose(other, {}, suggest)
    assert other.saw == sampler.saw


@pytest.mark.parametrize("asked", [1, 2])
def test_a_driver_that_dies_while_it_proposes_a_cohort_goes_on_with_the_rest_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: int
) -> None:
    killed = open_ledger(tmp_path, trials=16, cohort=4)
    drive(killed, workers=2, stop_after=BASELINES + 8)
    start, starts = DurableStudy.start, list[FrozenTrial]()

    def dying(study: DurableStudy, proposed: FrozenTrial) -> FrozenTrial:
        if len(starts) == asked:
            raise KeyboardInterrupt
        starts.append(start(study, proposed))
        return starts[-1]

    with monkeypatch.context() as patch:
        patch.setattr(DurableStudy, "start", dying)
        with pytest.raises(KeyboardInterrupt):
            drive(killed, workers=2)
    resumed = open_ledger(tmp_path, trials=16, cohort=4)
    assert resumed.reconcile() == asked
    drive(resumed, workers=2)
    assert outcomes(resumed) == undisturbed(trials=16, cohort=4)


def test_a_study_that_is_extended_within_a_cohort_proposes_what_a_longer_one_would(
    tmp_path: Path,
) -> None:
    drive(open_ledger(tmp_path, trials=11, cohort=4), workers=2)
    longer = open_ledger(tmp_path, trials=13, cohort=4)
    drive(longer, workers=2)
    assert outcomes(longer) == undisturbed(trials=13, cohort=4)
