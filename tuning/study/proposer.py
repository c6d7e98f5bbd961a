"""The view of a study that a sampler gets: one trial for each point, in order of the points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from pydantic import ValidationError

from search_spaces.space import Value
from trainables.smoothing.noise import derive_seed
from trainables.worker import using_threads
from tuning.study.attempts import read_hyperparameters
from tuning.study.clock import Clock
from tuning.study.pareto import by_rank
from tuning.study.points import Plan, Points
from tuning.study.samplers import make_sampler

# A sampler sees between one and two windows of the latest points. Older points, unless they are
# among the best, hardly influence TPE, but would still take time to read.
WINDOW = 250
# The best of the older points stay visible: twice the most that TPE counts as good ones.
BEST = 50


class Proposer:
    """Proposes points, one after the other, each from what is known when it starts.

    Samplers read all trials in order of number, and a point whose attempt was interrupted gets a
    later number than in an undisturbed run. Here the trials are in order of their points. Points
    that have not ended before the start of the new one, in the time of the `clock`, appear as
    running, even if their results are there: whether they are depends on the workers.
    """

    def __init__(
        self,
        points: Points,
        plan: Plan,
        directions: Sequence[StudyDirection],
        clock: Clock,
        rungs: Sequence[int],
    ) -> None:
        self._points, self._plan, self._directions = points, plan, directions
        self._clock, self._rungs = clock, rungs
        self._first = self._next = 0
        self._begin(0)

    def propose(
        self,
        transferred: Sequence[Mapping[str, Value]],
        attempts: Mapping[int, FrozenTrial],
    ) -> FrozenTrial:
        """The next point of the clock, which must know when it starts, with its durations.

        `transferred` are the points from a different setting, and `attempts` the latest attempts
        at all earlier points: those that brought the result, if there is one.
        """
        root, start = len(self._clock), self._clock.next_start()
        if start is None:
            raise ValueError(f"it is not known yet when point {root} starts")
        self._look(root, start, attempts)
        # One sampler per point, so that a resumed study proposes what an undisturbed one would.
        seed = derive_seed(self._plan.seed, "sampler", root) % 2**32
        space = self._points.space
        self._study.sampler = make_sampler(self._plan.sampler, seed, space, self._plan.pareto)
        origin, known = self._points.known(root, transferred)
        if known:
            self._study.enqueue_trial(dict(known))
        # One thread is also faster for a Gaussian process of so few points: workers use all cores.
        with using_threads(1):
            trial = self._study.ask()
            hyperparameters = space.suggest(trial) | self._points.held(root)
        trial.set_user_attr("root", root)
        trial.set_user_attr("origin", origin)
        trial.set_user_attr("seed", derive_seed(self._plan.seed, "trial", root))
        trial.set_user_attr("hyperparameters", hyperparameters)
        self._show(root)
        proposed = self._trials[-1]
        proposed.user_attrs["durations"] = self._durations(proposed)
        return proposed

    def _durations(self, proposed: FrozenTrial) -> list[float]:
        """The predicted durations of a trial up to each rung."""
        if self._plan.durations is None:
            return [float(rung) for rung in self._rungs]
        try:
            return [float(d) for d in self._plan.durations(read_hyperparameters(proposed))]
        except ValidationError:
            # Values that are not valid together end at once.
            return [0.0] * len(self._rungs)

    def _look(self, root: int, now: float, attempts: Mapping[int, FrozenTrial]) -> None:
        """Bring the view to the time `now`, when point `root` starts."""
        first = max(0, root // WINDOW - 1) * WINDOW
        if first != self._first:
            moved = first + WINDOW
            self._forget(first, now if moved == root else self._clock.start_of(moved), attempts)
        for other in range(self._next, root):
            self._recall(other, attempts[other])
        for other in [r for r in self._running if self._clock.end_of(r) < now]:
            self._learn(other, attempts[other])

    def _recall(self, root: int, attempt: FrozenTrial) -> None:
        """Show a point as running."""
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=attempt.params,
                distributions=attempt.distributions,
                user_attrs=attempt.user_attrs,
                system_attrs=attempt.system_attrs,
            )
        )
        self._show(root)

    def _show(self, root: int) -> None:
        """Take note that the last trial is for this point."""
        self._running[root] = len(self._trials) - 1
        self._next = max(self._next, root + 1)

    def _learn(self, root: int, attempt: FrozenTrial) -> None:
        """Show how a point ended."""
        number = self._running.pop(root)
        shown = self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)
        for step, value in attempt.intermediate_values.items():
            self._storage.set_trial_intermediate_value(shown, step, value)
        self._storage.set_trial_state_values(shown, attempt.state, attempt.values)

    def _forget(self, first: int, moved: float, attempts: Mapping[int, FrozenTrial]) -> None:
        """Start over with points from `first` on, and what mattered of others at time `moved`."""
        self._begin(first)
        ends = {root: self._clock.end_of(root) for root in range(first)}
        ended = [attempts[root] for root, end in ends.items() if end < moved]
        self._study.add_trials(_best(ended))
        for root, end in ends.items():
            if end >= moved:
                self._recall(root, attempts[root])

    def _begin(self, first: int) -> None:
        self._first = self._next = first
        # The numbers of running trials, by point.
        self._running: dict[int, int] = {}
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
