"""The points that a study means to evaluate, their order and their cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.decrop.config import BASELINES


@dataclass(frozen=True)
class Roots:
    """The roots of a study, by their numbers.

    Root 0 is the published point; then comes each kind of plain denoised smoothing at each of the
    sweep's sigmas: the baselines, which are the first cohort. Then come the space's own `start`,
    what other settings transferred, and the sampler's proposals, in cohorts of `cohort` roots.
    """

    space: SearchSpace
    cohort: int

    @property
    def baselines(self) -> int:
        """How many roots every study of the space has, to compare the search with."""
        return 1 + len(self._plain)

    def cohort_of(self, root: int) -> int:
        """The number of the root's cohort."""
        return 0 if root < self.baselines else 1 + (root - self.baselines) // self.cohort

    def members(self, cohort: int) -> range:
        """The roots of a cohort, were there no end to them."""
        end = self.baselines + cohort * self.cohort
        return range(end - self.cohort if cohort else 0, end)

    def known(
        self, root: int, transferred: Sequence[Mapping[str, Value]]
    ) -> tuple[str, dict[str, Value]]:
        """A root's origin, and what is known of its parameters before the sampler is asked."""
        if root == 0:
            return "published", self.space.point({})
        if root < self.baselines:
            name, changes = self._plain[root - 1]
            return name, self.space.point(changes)
        index = root - self.baselines
        if index < len(self.space.start):
            return "start", self.space.point(self.space.start[index])
        index -= len(self.space.start)
        if index < len(transferred):
            return "transferred", self.space.point(transferred[index])
        return "search", {}

    def held(self, root: int) -> dict[str, Value]:
        """Hyperparameters of a baseline that hold whatever the space says."""
        return self._plain[root - 1][1] if 0 < root < self.baselines else {}

    @cached_property
    def _plain(self) -> list[tuple[str, dict[str, Value]]]:
        return [
            (name, {**weights, "sigma": sigma})
            for name, weights in BASELINES.items()
            for sigma in self.space.sweep
        ]
