import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.records import record
from trainables.data.splits import Shots
from trainables.models.denoisers import Denoiser, DnCNN
from tuning.cluster.pool import Urgency
from tuning.config import make_config
from tuning.confirmation.confirm import Candidates, choose_variants, confirmed, fresh_folds
from tuning.confirmation.draws import Draws
from tuning.confirmation.scoring import FoldScores
from tuning.confirmation.selection import Confirmed
from tuning.confirmation.training import Training
from tuning.errors import AllTrialsFailed


def shots() -> Shots:
    images, labels = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    return Shots(
        images[:16], labels[:16], list(range(16)), images[16:], labels[16:], [*range(16, 20)]
    )


class PretendedTrainer:
    """Trains nothing; what is trained on a fold diverges as `diverging` says: a sigma, a fold."""

    def __init__(self, folds: Sequence[Shots], *diverging: tuple[float, int]) -> None:
        self.folds, self.diverging = folds, diverging
        self.trainings: dict[tuple[float, int], Training] = {}

    async def train(self, training: Training, urgency: Urgency) -> Denoiser | None:
        (number,) = [
            number
            for number, fold in enumerate(self.folds)
            if torch.equal(fold.train_images, training.images)
        ]
        key = training.hyperparameters.sigma, number
        self.trainings[key] = training
        return None if key in self.diverging else DnCNN(1, 3, 4)


class PretendedScorer:
    """Counts nothing: for each model and each fold it notes the fold and the sigma."""

    def __init__(self, folds: Sequence[Shots], seed: int) -> None:
        self.folds, self.seed, self.forgone = folds, seed, list[Shots]()

    def voter(self, model: nn.Module) -> nn.Module:
        return model

    async def count(self, voter: nn.Module, fold: Shots, sigma: float) -> Any:
        (number,) = [number for number, one in enumerate(self.folds) if one is fold]
        return number, sigma

    def scores(self, sigma: float, counted: Sequence[Any]) -> FoldScores:
        assert list(counted) == [(number, sigma) for number in range(len(self.folds))]
        return scored(sigma)

    def forgo(self, fold: Shots) -> None:
        self.forgone.append(fold)


def test_candidates_train_on_the_same_folds_and_seeds_and_leave_if_they_diverge_on_one() -> None:
    folds = fresh_folds(shots(), 3, seed=5)
    held_out = [set(fold.tuning_indices) for fold in folds]
    assert not held_out[0] & held_out[1]
    trainer: Any = PretendedTrainer(folds, (0.2, 1))
    scorer: Any = PretendedScorer(folds, 5)
    advanced: list[int] = []
    candidates = Candidates(nn.Identity(), trainer, scorer, advanced.append)
    shortlist = [record(7, sigma=0.1), record(8, sigma=0.2), record(9, sigma=0.3)]

    async def confirm() -> list[Confirmed | None]:
        return await asyncio.gather(*map(candidates.confirm, shortlist))

    found = asyncio.run(confirm())
    assert [one and (one.trial, one.sigma) for one in found] == [
        (shortlist[0], 0.1),
        None,
        (shortlist[2], 0.3),
    ]
    assert sum(advanced) == len(trainer.trainings) == 9
    assert scorer.forgone == [folds[1]]
    seeds = [[trainer.trainings[sigma, n].seed for n in range(3)] for sigma in (0.1, 0.2, 0.3)]
    assert len(set(seeds[0])) == 3
    assert seeds == 3 * seeds[:1]


def test_the_bare_classifier_is_scored_at_each_sigma() -> None:
    scorer: Any = PretendedScorer(fresh_folds(shots(), 2, seed=5), 5)
    trainer: Any = None
    candidates = Candidates(nn.Identity(), trainer, scorer, lambda done: None)
    found = asyncio.run(candidates.confirm_bare((0.1, 0.4)))
    assert [(one.trial, one.sigma) for one in found] == [(None, 0.1), (None, 0.4)]
    assert [one.score.mean for one in found] == pytest.approx([0.2, 0.5])


def scored(level: float) -> FoldScores:
    draws = Draws((0, 0, 1), (16, 17, 18))
    return FoldScores(level + np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.0, 0.0]), draws, level)


def trial(origin: str, number: int, level: float) -> Confirmed:
    return confirmed(record(number, origin), 0.25, scored(level))


def bare(*levels: float) -> list[Confirmed]:
    return [confirmed(None, 0.1 * (1 + n), scored(level)) for n, level in enumerate(levels)]


def test_each_variant_is_the_highest_of_its_kind() -> None:
    trained = [
        trial("published", 0, 0.2),
        trial("label_consistency", 1, 0.1),
        trial("label_consistency", 2, 0.3),
        trial("search", 3, 0.6),
    ]
    config = make_config({"name": "x"})
    found = choose_variants(trained, bare(0.4, 0.5), config)
    numbers = {v: c.trial and c.trial.number for v, c in found.variants.items()}
    assert numbers == {"none": None, "label_consistency": 2, "published": 0, "best": 3}
    assert found.variants["none"].sigma == pytest.approx(0.2)
    assert (len(found.trials), len(found.bare)) == (4, 2)
    assert found.variants["best"].accuracy == pytest.approx(2 / 3)
    # No other sigma was better for the published values.
    assert found.further == {"published_best_sigma": found.variants["published"]}
    for level, stronger in ((0.25, 6), (0.05, 0)):
        swept = [*trained, trial("published_sigma", 6, level)]
        further = choose_variants(swept, bare(0.4, 0.5), config).further
        found_numbers = {v: c.trial and c.trial.number for v, c in further.items()}
        assert found_numbers == {"published_best_sigma": stronger}
    with pytest.raises(AllTrialsFailed, match="label_consistency diverged"):
        choose_variants([trained[0], trained[3]], bare(0.4), config)


def test_the_best_is_the_highest_of_those_that_are_tied() -> None:
    trained = [
        trial("published", 0, 0.2),
        trial("label_consistency", 1, 0.1),
        trial("search", 5, 0.6),
        trial("search", 6, 0.6),
    ]
    found = choose_variants(trained, bare(0.4), make_config({"name": "x"}))
    assert [c.trial and c.trial.number for c in found.tied] == [5, 6]
    assert found.variants["best"] is found.tied[0]
