"""The view of a study that a sampler gets: one trial for each point, in order of the points."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trainables.worker import using_threads
from tuning.study.pareto import by_rank

# A sampler sees between one and two windows of the latest points. Older points, unless they are
# among the best, hardly influence TPE, but would still take time to read.
WINDOW = 250
# The best of the older points stay visible: twice the most that TPE counts as good ones.
BEST = 50


class Proposer:
    """Proposes the hyperparameters of points, one after the other.

    Samplers read all trials in order of number, and a point whose attempt was interrupted gets a
    later number than in an undisturbed run. Here the trials are in order of their points. The
    points of the cohort that is being proposed appear as running, even those that have ended:
    whether they have depends on when the run was interrupted.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        # The best of the points before the first visible one, which is a multiple of WINDOW.
        self._best: list[FrozenTrial] = []
        self._first = self._learned = 0
        self._begin()

    @property
    def next_root(self) -> int:
        """The root of the next point."""
        return self._first - len(self._best) + len(self._trials)

    def learn(self, settled: Sequence[FrozenTrial]) -> None:
        """Learn how the points ended; `settled` begins with those that are already known."""
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
        """The next point: `point` gives some of its parameters, and the sampler the others.

        What `suggest` returns becomes the attributes of the trial.
        """
        self._study.sampler = sampler
        if point:
            self._study.enqueue_trial(dict(point))
        # One thread is also faster for a Gaussian process of so few points: workers use all cores.
        with using_threads(1):
            trial = self._study.ask()
            attributes = suggest(trial)
        for name, value in attributes.items():
            trial.set_user_attr(name, value)
        return self._trials[trial.number]

    def _forget(self, settled: Sequence[FrozenTrial]) -> None:
        """Start over with the best of the older points."""
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
    """The `BEST` best complete trials, in their original order."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if complete and len(complete[0].values) == 2:
        order = by_rank([(trial.values[0], trial.values[1]) for trial in complete])
    else:
        order = sorted(range(len(complete)), key=lambda index: -complete[index].values[0])
    return [complete[index] for index in sorted(order[:BEST])]
