"""What a sampler sees of a study: one trial for each root, in order of the roots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from tuning.threads import one_thread


class Proposer:
    """Proposes the hyperparameters of roots, one after the other.

    Samplers read all trials in order of number, and a root whose attempt was interrupted ends with
    a later number than in an undisturbed run. Here the number of a trial is that of its root. The
    roots of the cohort that is being proposed are running, also those that have ended already:
    whether they have depends on when the run was interrupted.
    """

    def __init__(self, directions: Sequence[StudyDirection]) -> None:
        self._study = optuna.create_study(directions=directions)
        self._learned = 0

    @property
    def next_root(self) -> int:
        """The root that comes next."""
        return len(self._trials)

    def learn(self, settled: Sequence[FrozenTrial]) -> None:
        """Take in how the first roots ended; `settled` begins with those that are known."""
        storage = self._study._storage
        for root in range(self._learned, len(settled)):
            trial = settled[root]
            if root == self.next_root:
                self._study.add_trial(trial)
                continue
            known = self._trials[root]._trial_id
            for step, value in trial.intermediate_values.items():
                storage.set_trial_intermediate_value(known, step, value)
            storage.set_trial_state_values(known, trial.state, trial.values)
        self._learned = len(settled)

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
