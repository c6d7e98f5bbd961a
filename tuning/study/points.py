"""The points that a study plans to evaluate, and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from search_spaces import SearchSpace
from search_spaces.space import Value
from trainables.decrop.config import BASELINES, DecropConfig
from tuning.study.choices import SamplerName, SchedulerName

# The origin of the published point at the other sigmas of the sweep.
PUBLISHED_SIGMA = "published_sigma"


@dataclass(frozen=True)
class Plan:
    """How a study searches.

    `virtual_workers` is decided by the first start, and kept when the study is resumed. `durations`
    predicts how long a trial takes up to each of its rungs, in any unit; by default that is in
    proportion to its epochs. `objective` is what readers of the study call the value that is
    maximised. With `pareto` a trial has two values, this one and the clean accuracy, and none is
    pruned. With `awaits_transfer` no point after the baselines is proposed before points are
    transferred from a different setting.
    """

    trials: int
    virtual_workers: int
    seed: int
    sampler: SamplerName = "tpe"
    scheduler: SchedulerName = "asha"
    pareto: bool = False
    awaits_transfer: bool = False
    durations: Callable[[DecropConfig], Sequence[float]] | None = None
    objective: str = "objective"


@dataclass(frozen=True)
class Proposal:
    """A trial to run: its number, seed and hyperparameters, and the label of its point.

    `abandoned` holds the numbers of earlier attempts, the latest first: the trial may continue from
    where one of them stopped.
    """

    number: int
    seed: int
    hyperparameters: DecropConfig
    label: str
    abandoned: tuple[int, ...] = ()


@dataclass(frozen=True)
class Points:
    """The points of a study, by number; the number of a point is its *root*.

    Root 0 is the published point; then comes the same at each other sigma of the sweep, and each
    kind of plain denoised smoothing at all of them. These are the baselines. Then come the space's
    own `start` points, those transferred from a different setting, and the sampler's proposals. The
    published point counts as one of the `trials`.
    """

    space: SearchSpace
    trials: int

    def __len__(self) -> int:
        return self.baselines + self.trials - 1

    @property
    def baselines(self) -> int:
        """How many points every study of the space has for comparison with the search."""
        return 1 + len(self._compared)

    def known(
        self, root: int, transferred: Sequence[Mapping[str, Value]]
    ) -> tuple[str, dict[str, Value]]:
        """A point's origin, and what is known of its parameters before the sampler is asked."""
        if root == 0:
            return "published", self.space.point({})
        if root < self.baselines:
            name, changes = self._compared[root - 1]
            return name, self.space.point(changes)
        index = root - self.baselines
        if index < len(self.space.start):
            return "start", self.space.point(self.space.start[index])
        index -= len(self.space.start)
        if index < len(transferred):
            return "transferred", self.space.point(transferred[index])
        return "search", {}

    def held(self, root: int) -> dict[str, Value]:
        """Hyperparameters of a baseline that override the space."""
        return self._compared[root - 1][1] if 0 < root < self.baselines else {}

    @cached_property
    def _compared(self) -> list[tuple[str, dict[str, Value]]]:
        return compared(self.space)


def label_of(root: int, origin: str) -> str:
    """What people call a point: labels sort by number and say where it came from (`011 start`)."""
    return f"{root:03d} {origin.replace('_', ' ')}"


def compared(space: SearchSpace) -> list[tuple[str, dict[str, Value]]]:
    """The baselines beside the published point: origins, and changes to it."""
    published = space.named.get("sigma")
    others: list[tuple[str, dict[str, Value]]] = [
        (PUBLISHED_SIGMA, {"sigma": sigma}) for sigma in space.sweep if sigma != published
    ]
    return others + [
        (name, {**weights, "sigma": sigma})
        for name, weights in BASELINES.items()
        for sigma in space.sweep
    ]
