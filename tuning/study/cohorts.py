"""Which attempts to start next: one cohort after another, each proposed from earlier results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial

from search_spaces.space import Value
from trainables.smoothing.noise import derive_seed
from tuning.study.attempts import Attempts
from tuning.study.points import Plan, Points
from tuning.study.proposer import Proposer
from tuning.study.samplers import make_sampler


class Cohorts:
    """Proposes all points of a cohort at once, from the results of earlier cohorts only.

    Proposals therefore do not depend on how many workers there are or which of them is fastest.
    """

    def __init__(self, points: Points, plan: Plan, directions: Sequence[StudyDirection]) -> None:
        self._points, self._plan = points, plan
        self._proposer = Proposer(directions)

    def open(
        self, attempts: Attempts, transferred: Sequence[Mapping[str, Value]] | None
    ) -> Iterator[tuple[FrozenTrial, list[FrozenTrial]]]:
        """Attempts to start at every open point of the first cohort that has one.

        Each comes with the attempts at the same point that were given up, the latest first. While
        the points `transferred` from a different setting are None, only baselines are proposed.
        """
        settled, points = attempts.settled, self._points
        first = next((root for root in range(len(points)) if root not in settled), None)
        if first is None or (transferred is None and first >= points.baselines):
            return
        members = points.members(points.cohort_of(first))
        self._proposer.learn([settled[root] for root in range(members.start)])
        for root in members:
            abandoned = attempts.abandoned(root)
            known = settled.get(root) or next(iter(abandoned), None)
            if known is None:
                known = self._propose(root, transferred or ())
            elif root == self._proposer.next_root:
                self._proposer.recall(known)
            if root not in settled:
                yield known, abandoned

    def _propose(self, root: int, transferred: Sequence[Mapping[str, Value]]) -> FrozenTrial:
        plan, points = self._plan, self._points
        # One sampler per point, so that a resumed study proposes what an undisturbed one would.
        seed = derive_seed(plan.seed, "sampler", root) % 2**32
        origin, point = points.known(root, transferred)

        def suggest(trial: Trial) -> dict[str, Any]:
            return {
                "root": root,
                "origin": origin,
                "seed": derive_seed(plan.seed, "trial", root),
                "hyperparameters": points.space.suggest(trial) | points.held(root),
            }

        sampler = make_sampler(plan.sampler, seed, points.space, plan.pareto)
        return self._proposer.propose(sampler, point, suggest)
