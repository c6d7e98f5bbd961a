"""The scores of configurations on fresh splits of the shots, the folds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from trainables.data.splits import Shots
from trainables.smoothing.bounds import Floats
from trainables.smoothing.certify import Request
from trainables.smoothing.noise import BLOCK_SIZE, Noise
from trainables.smoothing.objective import Objective, Score, clean_accuracy
from trainables.smoothing.prediction import Certification
from tuning.cluster.pool import Urgency
from tuning.config import RunConfig
from tuning.confirmation.draws import Draws
from tuning.setting.setting import Setting
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Evaluation, Outcome, VoteJob


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
    """Scores models on the tuning images of the folds, all under the same noise.

    `name` is the name of the votes in messages and dashboards; `advance` is called with numbers of
    votes.
    """

    name: str
    setting: Setting
    folds: Sequence[Shots]
    config: RunConfig
    seed: int
    counter: VoteCounter
    advance: Callable[[int], None]

    def voter(self, model: nn.Module) -> Voter:
        """`model` prepared to vote on the tuning images."""
        return self.counter.voter(model, self.folds[0].tuning_images.shape[1:])

    async def count(self, voter: Voter, fold: Shots, sigma: float) -> list[Outcome[Votes]]:
        """The votes of a model on the tuning images of a fold, under noise of `sigma`."""
        votes = self.config.confirm_votes
        # As many as in the search, in whole blocks.
        few = math.ceil(self.config.tuning_votes / BLOCK_SIZE) * BLOCK_SIZE
        job = VoteJob(
            self.name,
            *voter,
            images=fold.tuning_images,
            indices=fold.tuning_indices,
            noise=Noise(sigma),
            seed=self.seed,
            evaluate=partial(_votes, min(few, votes), votes),
            most=votes,
        )
        return await self.counter.count(job, Urgency.CONFIRMATION_VOTES, self.advance)

    def forgo(self, fold: Shots) -> None:
        """Advance by the votes of a model on a fold, which there is not."""
        self.advance(len(fold.tuning_labels) * self.config.confirm_votes)

    def scores(self, sigma: float, outcomes: Sequence[Sequence[Outcome[Votes]]]) -> FoldScores:
        """The scores that follow from the votes that were counted on each fold."""
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


class Votes(NamedTuple):
    """Votes for each class: `few`, as many as in the search, and `total`, with these included."""

    few: list[int]
    total: list[int]


def _votes(few: int, most: int) -> Evaluation[Votes]:
    """The same number of votes for every image, `most`, with a count after `few` of them."""
    first = yield Request("confirm", 0, few)
    if few == most:
        return Votes(first, first)
    rest = yield Request("confirm", few, most)
    return Votes(first, [a + b for a, b in zip(first, rest, strict=True)])
