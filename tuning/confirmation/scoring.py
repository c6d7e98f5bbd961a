"""The scores of configurations on fresh splits of the shots, the folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from trainables.data.splits import Shots
from trainables.smoothing.certify import Request
from trainables.smoothing.noise import Noise
from trainables.smoothing.objective import Objective
from tuning.config import RunConfig
from tuning.study.attempts import TrialRecord
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Evaluation, Outcome, VoteJob


@dataclass(frozen=True)
class Contender:
    """What is scored under noise of `sigma`: a trial's configuration, trained on each fold.

    `voters` holds one model for each fold. Without a `trial` it is the bare classifier.
    """

    trial: TrialRecord | None
    sigma: float
    voters: Sequence[Voter]


class FoldScores(NamedTuple):
    """Score and correctness of each tuning image, in order of the folds."""

    objective: list[float]
    correct: list[float]


@dataclass(frozen=True)
class Scorer:
    """Scores contenders on the tuning images of the folds, all under the same noise.

    `name` is the name of the votes in messages and dashboards.
    """

    name: str
    folds: Sequence[Shots]
    config: RunConfig
    seed: int
    counter: VoteCounter

    def score(
        self, contenders: Sequence[Contender], advance: Callable[[int], None]
    ) -> list[FoldScores]:
        """The scores of each contender; `advance` is called with numbers of votes."""
        jobs = [
            self._job(voter, fold, contender.sigma)
            for contender in contenders
            for voter, fold in zip(contender.voters, self.folds, strict=True)
        ]
        outcomes = iter(self.counter.count(jobs, advance))
        return [
            self._scores(contender.sigma, [next(outcomes) for _ in self.folds])
            for contender in contenders
        ]

    def _job(self, voter: Voter, fold: Shots, sigma: float) -> VoteJob[list[int]]:
        votes = self.config.confirm_votes
        return VoteJob(
            self.name,
            *voter,
            images=fold.tuning_images,
            indices=fold.tuning_indices,
            noise=Noise(sigma),
            seed=self.seed,
            evaluate=partial(_all_votes, votes),
            most=votes,
        )

    def _scores(self, sigma: float, outcomes: Sequence[Sequence[Outcome[list[int]]]]) -> FoldScores:
        """The scores that follow from the votes on the images of each fold."""
        right = [
            outcome.result[label]
            for fold, of_images in zip(self.folds, outcomes, strict=True)
            for outcome, label in zip(of_images, fold.tuning_labels.tolist(), strict=True)
        ]
        config = self.config
        objective, correct = (
            wanted.scores(right, config.confirm_votes, n=config.n, sigma=sigma, alpha=config.alpha)
            for wanted in (Objective.parse(config.objective), Objective.clean_accuracy())
        )
        return FoldScores(objective, correct)


def _all_votes(votes: int) -> Evaluation[list[int]]:
    """The same number of votes for every image."""
    return (yield Request("confirm", 0, votes))
