"""What a sampler sees of a study: one trial for each root, in order of the roots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from trainables.worker import one_thread
from tuning.study.pareto import by_rank

# A sampler sees between one and two windows of the latest roots. What TPE learns from an older one,
# unless that is among the best, fades away; the time it takes to read it does not.
WINDOW = 250
# The best of older roots stay in sight: twice what TPE counts among the good ones at most.
BEST = 50


class Proposer:
    """Proposes the hyperparameters of roots, one after the other.

    Samplers read all trials in order of number, and a root whose attempt was interrupted ends with
    a later number than in an undisturbed run. Here the trials are in order of their roots. The
    roots of the cohort that is being proposed are running, also those that have ended already:
    whether they have depends on when the run was interrupted.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._directions = directions
        self._study = optuna.create_study(directions=directions)
        # The best of the roots before the first one in sight, which is always a multiple of WINDOW.
        self._best: list[FrozenTrial] = []
        self._first = self._learned = 0

    @property
    def next_root(self) -> int:
        """The root that comes next."""
        return self._first - len(self._best) + len(self._trials)

    def learn(self, settled: Sequence[FrozenTrial]) -> None:
        """Take in how the first roots ended; `settled` begins with those that are known."""
        if len(settled) - self._first >= 2 * WINDOW:
            self._forget(settled)
        storage = self._study._storage
        for root in range(self._learned, len(settled)):
            trial = settled[root]
            if root == self.next_root:
                self._study.add_trial(trial)
                continue
            known = self._trials[root - self.next_root]._trial_id
            for step, value in trial.intermediate_values.items():
                storage.set_trial_intermediate_value(known, step, value)
            storage.set_trial_state_values(known, trial.state, trial.values)
        self._learned = len(settled)

    def _forget(self, settled: Sequence[FrozenTrial]) -> None:
        """Begin anew with the best of the older roots."""
        while len(settled) - self._first >= 2 * WINDOW:
            older = [*self._best, *settled[self._first : self._first + WINDOW]]
            self._best = _best(older)
            self._first += WINDOW
        self._study = optuna.create_study(directions=self._directions)
        self._study.add_trials(self._best)
        self._learned = self._first

    def recall(self, attempt: FrozenTrial) -> None:
        """Take the next root from an attempt at it."""
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
        """The next root, with the parameters of `point`, and the sampler's for all others.

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
