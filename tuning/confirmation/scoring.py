"""The scores of configurations on fresh splits of the shots, the folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from trainables.data.splits import Shots
from trainables.smoothing.bounds import Floats
from trainables.smoothing.certify import Request
from trainables.smoothing.noise import BLOCK_SIZE, Noise
from trainables.smoothing.objective import Objective, Score, clean_accuracy
from trainables.smoothing.prediction import Certification
from tuning.config import RunConfig
from tuning.confirmation.draws import Draws
from tuning.setting.setting import Setting
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
    """Score and correctness of each tuning image, in order of the folds.

    `draws` are their folds and images. `unseen` is the score with as many votes as in the search,
    on the images that the search did not tune on; None if there are no such images.
    """

    objective: Floats
    correct: Floats
    draws: Draws
    unseen: float | None


@dataclass(frozen=True)
class Scorer:
    """Scores contenders on the tuning images of the folds, all under the same noise.

    `name` is the name of the votes in messages and dashboards.
    """

    name: str
    setting: Setting
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

    def _job(self, voter: Voter, fold: Shots, sigma: float) -> VoteJob[_Votes]:
        votes = self.config.confirm_votes
        # As many as in the search, in whole blocks.
        few = math.ceil(self.config.tuning_votes / BLOCK_SIZE) * BLOCK_SIZE
        return VoteJob(
            self.name,
            *voter,
            images=fold.tuning_images,
            indices=fold.tuning_indices,
            noise=Noise(sigma),
            seed=self.seed,
            evaluate=partial(_votes, min(few, votes), votes),
            most=votes,
        )

    def _scores(self, sigma: float, outcomes: Sequence[Sequence[Outcome[_Votes]]]) -> FoldScores:
        """The scores that follow from the votes on the images of each fold."""
        votes = [outcome.result for of_images in outcomes for outcome in of_images]
        few, all_votes = (np.array(counts) for counts in zip(*votes, strict=True))
        labels = torch.cat([fold.tuning_labels for fold in self.folds]).numpy()
        draws = Draws.of(self.folds)
        unseen = ~np.isin(draws.images, self.setting.shots.tuning_indices)
        objective = Objective.parse(self.config.objective, self.setting.radii)
        config = self.config
        certification = Certification(config.n0, config.n, sigma, config.alpha)
        return FoldScores(
            objective.scores(all_votes, labels, certification),
            clean_accuracy(all_votes, labels, certification),
            draws,
            Score.of(objective.scores(few[unseen], labels[unseen], certification)).mean
            if unseen.any()
            else None,
        )


class _Votes(NamedTuple):
    """Votes for each class: `few`, as many as in the search, and `total`, with these included."""

    few: list[int]
    total: list[int]


def _votes(few: int, most: int) -> Evaluation[_Votes]:
    """The same number of votes for every image, `most`, with a count after `few` of them."""
    first = yield Request("confirm", 0, few)
    if few == most:
        return _Votes(first, first)
    rest = yield Request("confirm", few, most)
    return _Votes(first, [a + b for a, b in zip(first, rest, strict=True)])
