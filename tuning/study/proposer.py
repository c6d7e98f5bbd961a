"""What a sampler sees of a study: one trial for each point, in order of the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trainables.worker import one_thread
from tuning.study.pareto import by_rank

# A sampler sees between one and two windows of the latest points. What TPE learns from an older
# one, unless it is among the best, fades away; the time that it takes to read does not.
WINDOW = 250
# The best of older points stay in sight: twice what TPE counts among the good ones at most.
BEST = 50


class Proposer:
    """Proposes the hyperparameters of points, one after the other.

    Samplers read all trials in order of number, and a point whose attempt was interrupted ends with
    a later number than in an undisturbed run. Here the trials are in order of their points. The
    points of the cohort that is being proposed are running, even those that have ended already:
    whether they have depends on when the run was interrupted.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        # The best of the points before the first in sight, which is always a multiple of WINDOW.
        self._best: list[FrozenTrial] = []
        self._first = self._learned = 0
        self._begin()

    @property
    def next_root(self) -> int:
        """The point that comes next."""
        return self._first - len(self._best) + len(self._trials)

    def learn(self, settled: Sequence[FrozenTrial]) -> None:
        """Take in how the first points ended; `settled` begins with those that are known."""
        if len(settled) - self._first >= 2 * WINDOW:
            self._forget(settled)
        for root in range(self._learned, len(settled)):
            trial = settled[root]
            if root == self.next_root:
                self._study.add_trial(trial)
                continue
            number = len(self._trials) + root - self.next_root
            known = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
            for step, value in trial.intermediate_values.items():
                self._storage.set_trial_intermediate_value(known, step, value)
            self._storage.set_trial_state_values(known, trial.state, trial.values)
        self._learned = len(settled)

    def recall(self, attempt: FrozenTrial) -> None:
        """Take the next point from an attempt at it."""
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=attempt.params,
                distributions=attempt.distributions,
                user_attrs=attempt.user_attrs,
                system_attrs=attempt.system_attrs,
            )
        )

    def propose(
        self,
        sampler: BaseSampler,
        point: Mapping[str, Any],
        suggest: Callable[[Trial], Mapping[str, Any]],
    ) -> FrozenTrial:
        """The next point, with the parameters of `point`, and the sampler's for all others.

        What `suggest` returns become attributes of the trial.
        """
        self._study.sampler = sampler
        if point:
            self._study.enqueue_trial(dict(point))
        # A Gaussian process of so few points is also faster so: workers have the other cores.
        with one_thread():
            trial = self._study.ask()
            attributes = suggest(trial)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        return self._trials[trial.number]

    def _forget(self, settled: Sequence[FrozenTrial]) -> None:
        """Begin anew with the best of the older points."""
        while len(settled) - self._first >= 2 * WINDOW:
            older = [*self._best, *settled[self._first : self._first + WINDOW]]
            self._best = _best(older)
            self._first += WINDOW
        self._begin()
        self._study.add_trials(self._best)
        self._learned = self._first

    def _begin(self) -> None:
        self._storage = InMemoryStorage()
        self._study = optuna.create_study(storage=self._storage, directions=self._directions)
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)

    @property
    def _trials(self) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False)


def _best(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The BEST best complete ones, in the order in which they are given."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete and len(complete[0].values) == 2:
        order = by_rank([(trial.values[0], trial.values[1]) for trial in complete])
    else:
        order = sorted(range(len(complete)), key=lambda index: -complete[index].values[0])
    return [complete[index] for index in sorted(order[:BEST])]
