"""How the votes of a setting are counted: in one precision, on the workers of the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import nn

from trainables.acceleration.voting import Precision, prepared
from trainables.models.denoisers import Denoiser
from trainables.weights.checkpoint import weights_hash
from tuning.cluster.pool import TaskPool, Urgency
from tuning.votes.collector import Collector
from tuning.votes.job import Outcome, T, VoteJob
from tuning.votes.store import VoteStore


class Voter(NamedTuple):
    """A model as it votes: its fast copy, and the hash under which its votes are stored."""

    model: nn.Module
    model_hash: str


class VoteCounter:
    """Counts the votes of a setting's models, all in the same precision and into the same store."""

    def __init__(self, store: VoteStore, precision: Precision, pool: TaskPool) -> None:
        self.store, self.precision = store, precision
        self._collector = Collector(store, pool)

    def voter(self, model: nn.Module, shape: Sequence[int]) -> Voter:
        """`model` prepared to vote on images of `shape` [C, H, W]."""
        return Voter(
            prepared(model, shape, self.precision), f"{weights_hash(model)}-{self.precision}"
        )

    async def count(
        self, job: VoteJob[T], urgency: Urgency, advance: Callable[[int], None]
    ) -> list[Outcome[T]]:
        """The outcome for each image, as `Collector.count`."""
        return await self._collector.count(job, urgency, advance)


def smoothable(denoiser: Denoiser | None, classifier: nn.Module) -> nn.Module:
    """The model that is smoothed: the classifier, behind the denoiser if there is one."""
    return classifier if denoiser is None else nn.Sequential(denoiser, classifier).eval()
