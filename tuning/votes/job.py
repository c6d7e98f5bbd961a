"""Jobs: images on which votes are needed, and the progress on each image."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor, nn

from trainables.smoothing.certify import Request
from trainables.smoothing.noise import Noise
from tuning.votes.store import Counts, VoteKey

T = TypeVar("T")
Evaluation = Generator[Request, list[int], T]
"""An evaluation of an image: it yields the draws that it needs next, is sent the total votes per
class of these draws, and returns a result when it needs no more."""


@dataclass(frozen=True)
class VoteJob(Generic[T]):
    """Votes of one model on several images: `images` are [n, C, H, W] by `indices`.

    `name` is for people: the setting, and what the model is there. `evaluate` starts the evaluation
    of an image, which takes `most` votes at most. For example, 1000 votes on each image:

        def thousand() -> Evaluation[list[int]]:
            return (yield Request("confirm", 0, 1000))

        VoteJob("digits", model, "hash", images, range(6), Noise(0.25), seed, thousand, 1000)
    """

    name: str
    model: nn.Module
    model_hash: str
    images: Tensor
    indices: Sequence[int]
    noise: Noise
    seed: int
    evaluate: Callable[[], Evaluation[T]]
    most: int


class Outcome(NamedTuple, Generic[T]):
    """The result for one image, and the seconds its votes took."""

    result: T
    seconds: float


@dataclass
class ImageVotes(Generic[T]):
    """One image of a job, and the votes for its next evaluation that have been counted so far.

    `position` is that of the image in its job. Votes are counted in pieces of at most `piece`.
    """

    job: VoteJob[T]
    position: int
    evaluation: Evaluation[T]
    piece: int
    missing: set[VoteKey] = field(default_factory=set)
    counts: list[int] | None = None
    votes: int = 0
    seconds: float = 0.0

    @property
    def pixels(self) -> Tensor:
        """The image: [C, H, W]."""
        return self.job.images[self.position]

    def advance(self) -> list[VoteKey] | Outcome[T]:
        """Send the evaluation its votes; returns the pieces it needs next, or its outcome."""
        counts, self.counts = self.counts, None
        try:
            # A generator must be advanced once before send().
            request = next(self.evaluation) if counts is None else self.evaluation.send(counts)
        except StopIteration as ended:
            return Outcome(ended.value, self.seconds)
        job, index = self.job, self.job.indices[self.position]
        keys = [
            VoteKey(
                job.model_hash,
                request.phase,
                index,
                job.noise.sigma,
                job.noise.pixel_steps,
                job.seed,
                start,
                min(start + self.piece, request.stop),
            )
            for start in range(request.start, request.stop, self.piece)
        ]
        self.missing = set(keys)
        return keys

    def add(self, key: VoteKey, found: Counts) -> None:
        """Add the votes of a piece to the total that the evaluation will be sent."""
        self.missing.discard(key)
        before = self.counts or [0] * len(found.votes)
        self.counts = [a + b for a, b in zip(before, found.votes, strict=True)]
        self.votes += key.size
        self.seconds += found.seconds
