from pathlib import Path

import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tests.support.ledgers import (
    BASELINES,
    SPACE,
    drive,
    finish,
    open_ledger,
    outcomes,
    undisturbed,
)
from trainables.decrop.config import DecropConfig
from tuning.study.clock import Clock
from tuning.study.points import Plan, Points
from tuning.study.proposer import Proposer


class Seeing(RandomSampler):
    """Remembers what it saw of the study at its last proposal."""

    def __init__(self) -> None:
        super().__init__(0)
        self.saw: list[tuple[TrialState, list[float] | None, dict[str, object]]] = []

    def before_trial(self, study: object, trial: FrozenTrial) -> None:
        trials = study.get_trials(deepcopy=False)  # type: ignore[attr-defined]
        self.saw = [(t.state, t.values, t.params) for t in trials[:-1]]

    @property
    def roots(self) -> list[int]:
        """The points in sight; `x` is a hundredth of a point's number."""
        return [round(100 * float(str(params["sigma"]))) for *_, params in self.saw]


@pytest.fixture
def sampler(monkeypatch: pytest.MonkeyPatch) -> Seeing:
    seeing = Seeing()
    monkeypatch.setattr("tuning.study.proposer.make_sampler", lambda *_: seeing)
    return seeing


class History:
    """A study of points that need one unit of time each, by one virtual worker or more."""

    def __init__(self, virtual_workers: int, directions: int = 1) -> None:
        self.clock = Clock(virtual_workers)
        self.attempts: dict[int, FrozenTrial] = {}
        self.directions = [StudyDirection.MAXIMIZE] * directions
        self.proposer = self.fresh()

    def fresh(self) -> Proposer:
        """As after the driver has started again."""
        plan = Plan(1000, 1, 0, pareto=len(self.directions) == 2)
        return Proposer(Points(SPACE, 1000), plan, self.directions, self.clock, (1,))

    def propose(self, duration: float = 1.0) -> FrozenTrial:
        root = len(self.clock)
        trial = self.proposer.propose([], self.attempts)
        self.clock.begin([duration], ())
        self.attempts[root] = trial
        return trial

    def end(self, root: int, score: float) -> None:
        trial = self.attempts[root]
        self.attempts[root] = create_trial(
            state=TrialState.COMPLETE,
            values=[score] * len(self.directions),
            # So that a point can be recognised.
            params={**trial.params, "sigma": root / 100},
            distributions={**trial.distributions, "sigma": FloatDistribution(0, 10)},
            user_attrs=trial.user_attrs,
            intermediate_values={3: score},
        )
        self.clock.end(root, 0)


def test_results_of_the_same_instant_and_of_later_ones_are_not_seen(sampler: Seeing) -> None:
    history = History(virtual_workers=2)
    history.propose(1.0)
    history.propose(2.0)
    history.end(0, 0.5)
    history.end(1, 0.7)
    # Point 2 starts when point 0 ends.
    history.propose(9.0)
    assert [state for state, *_ in sampler.saw] == [TrialState.RUNNING, TrialState.RUNNING]
    # Point 3 starts when point 1 ends.
    history.propose(1.0)
    assert [state for state, *_ in sampler.saw] == [
        TrialState.COMPLETE,
        TrialState.RUNNING,
        TrialState.RUNNING,
    ]
    assert [values for _, values, _ in sampler.saw] == [[0.5], None, None]


def test_a_sampler_sees_the_same_after_a_new_start(sampler: Seeing) -> None:
    history = History(virtual_workers=3)
    for root in range(9):
        history.propose(1.0 + root % 3)
        if root % 2:
            history.end(root - 1, 0.1)
            history.end(root, 0.2)
    history.proposer.propose([], history.attempts)
    states = [(state, values) for state, values, _ in sampler.saw]
    assert {state for state, _ in states} == {TrialState.RUNNING, TrialState.COMPLETE}
    history.fresh().propose([], history.attempts)
    assert [(state, values) for state, values, _ in sampler.saw] == states


def test_a_known_point_is_evaluated_as_it_is(sampler: Seeing) -> None:
    history = History(virtual_workers=1)
    proposed = history.propose()
    assert (
        proposed.params.items()
        >= {
            name: value for name, value in SPACE.point({}).items() if name in proposed.params
        }.items()
    )
    assert proposed.user_attrs["origin"] == "published"


def test_a_point_that_cannot_start_yet_is_refused(sampler: Seeing) -> None:
    history = History(virtual_workers=1)
    history.propose()
    with pytest.raises(ValueError, match="not known yet when point 1 starts"):
        history.propose()


@pytest.mark.parametrize("directions", [1, 2])
def test_of_many_points_the_latest_and_the_best_are_in_sight(
    monkeypatch: pytest.MonkeyPatch, sampler: Seeing, directions: int
) -> None:
    monkeypatch.setattr("tuning.study.proposer.WINDOW", 10)
    monkeypatch.setattr("tuning.study.proposer.BEST", 3)
    history = History(1, directions)
    for root in range(45):
        history.propose()
        # The later one of two equal points is the better one, and 7 is the best.
        history.end(root, 10.0 if root == 7 else root % 10 + root / 100)
    for _ in range(2):
        history.proposer = history.fresh()
        history.proposer.propose([], history.attempts)
        # The last one ends as the new one starts, so it is shown as running.
        assert sampler.roots == [7, 19, 29, *range(30, 45)]
        assert [state for state, *_ in sampler.saw][-2:] == [
            TrialState.COMPLETE,
            TrialState.RUNNING,
        ]


@pytest.mark.parametrize("root", [4, BASELINES + 1, BASELINES + 5])
def test_a_root_that_is_repeated_alone_changes_no_later_proposal(tmp_path: Path, root: int) -> None:
    disturbed = open_ledger(tmp_path, trials=20)
    while proposal := disturbed.next_proposal():
        trial = disturbed.study.trials[proposal.number]
        if trial.user_attrs["root"] == root and not proposal.abandoned:
            disturbed.interrupt(proposal.number, "the host died")
        else:
            assert finish(disturbed, proposal)
    assert [r.root for r in disturbed.attempts.records() if r.error] == [root]
    assert outcomes(disturbed) == undisturbed(trials=20)


@pytest.mark.parametrize("asked", [1, 2])
def test_a_driver_that_dies_after_some_proposals_goes_on_with_them(
    tmp_path: Path, asked: int
) -> None:
    killed = open_ledger(tmp_path, trials=16, virtual_workers=6)
    drive(killed, workers=2, stop_after=BASELINES + 8)
    assert all(killed.next_proposal() for _ in range(asked))
    resumed = open_ledger(tmp_path, trials=16, virtual_workers=6)
    assert resumed.reconcile() >= asked
    drive(resumed, workers=2)
    assert outcomes(resumed) == undisturbed(trials=16, virtual_workers=6)


def test_a_study_that_is_extended_proposes_what_a_longer_one_would(
    tmp_path: Path,
) -> None:
    drive(open_ledger(tmp_path, trials=11), workers=2)
    longer = open_ledger(tmp_path, trials=13)
    drive(longer, workers=2)
    assert outcomes(longer) == undisturbed(trials=13)


def test_a_proposal_has_its_predicted_durations() -> None:
    plan = Plan(3, 1, 0, durations=lambda config: [config.epochs, 2 * config.epochs])
    proposed = proposing(plan)
    epochs = proposed.user_attrs["hyperparameters"]["epochs"]
    assert proposed.user_attrs["durations"] == [epochs, 2 * epochs]


def test_values_that_are_not_valid_together_take_no_time() -> None:
    weights = dict.fromkeys(("w_label", "w_mse", "w_cosine", "w_mmd"), 0.0)

    def durations(config: DecropConfig) -> list[float]:
        # As where the hyperparameters of the point are read.
        return [DecropConfig.model_validate(weights).sigma]

    assert proposing(Plan(3, 1, 0, durations=durations)).user_attrs["durations"] == [0.0, 0.0]


def proposing(plan: Plan) -> FrozenTrial:
    """The first point of a study with two rungs."""
    maximise = [StudyDirection.MAXIMIZE]
    return Proposer(Points(SPACE, 3), plan, maximise, Clock(1), (1, 2)).propose([], {})
