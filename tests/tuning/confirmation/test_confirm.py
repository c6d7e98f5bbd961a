from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.records import record
from trainables.data.splits import Shots
from trainables.models.denoisers import Denoiser, DnCNN
from tuning.config import make_config
from tuning.confirmation.confirm import choose_variants, fresh_folds, train_on_folds
from tuning.confirmation.draws import Draws
from tuning.confirmation.scoring import Contender, FoldScores
from tuning.confirmation.training import Training
from tuning.errors import AllTrialsFailed


def shots() -> Shots:
    images, labels = torch.rand(20, 1, 2, 2), torch.arange(20) % 2
    return Shots(
        images[:16], labels[:16], list(range(16)), images[16:], labels[16:], [*range(16, 20)]
    )


class PretendedTrainer:
    """Trains nothing; the trainings whose number is in `diverging` diverge."""

    def __init__(self, *diverging: int) -> None:
        self.diverging, self.trainings = diverging, list[Training]()

    def train(
        self, trainings: Sequence[Training], advance: Callable[[int], None]
    ) -> list[Denoiser | None]:
        self.trainings = list(trainings)
        return [
            None if number in self.diverging else DnCNN(1, 3, 4)
            for number, _ in enumerate(trainings)
        ]


def test_candidates_train_on_the_same_folds_and_seeds_and_leave_if_they_diverge_on_one() -> None:
    folds = fresh_folds(shots(), 3, seed=5)
    held_out = [set(fold.tuning_indices) for fold in folds]
    assert not held_out[0] & held_out[1]
    trainer: Any = PretendedTrainer(4)
    shortlist = [record(number) for number in (7, 8, 9)]
    trained = train_on_folds(shortlist, folds, 5, trainer, lambda done: None)
    assert [candidate.trial.number for candidate in trained] == [7, 9]
    assert {len(candidate.denoisers) for candidate in trained} == {3}
    seeds = [training.seed for training in trainer.trainings]
    assert len(set(seeds[:3])) == 3
    assert seeds == 3 * seeds[:3]
    for number, training in enumerate(trainer.trainings):
        assert torch.equal(training.images, folds[number % 3].train_images)


def contender(origin: str | None, number: int = 0) -> Contender:
    trial = None if origin is None else record(number, origin)
    return Contender(trial, 0.25 if origin else 0.1 * (1 + number), [])


def scored(level: float) -> FoldScores:
    draws = Draws((0, 0, 1), (16, 17, 18))
    return FoldScores(level + np.array([0.0, 0.1, 0.2]), np.array([1.0, 1.0, 0.0]), draws, level)


def test_each_variant_is_the_highest_of_its_kind() -> None:
    contenders = [
        contender("published", 0),
        contender("label_consistency", 1),
        contender("label_consistency", 2),
        contender("search", 3),
        contender(None, 0),
        contender(None, 1),
    ]
    scores = [scored(level) for level in (0.2, 0.1, 0.3, 0.6, 0.4, 0.5)]
    config = make_config({"name": "x"})
    found = choose_variants(contenders, scores, config)
    numbers = {v: c.trial and c.trial.number for v, c in found.variants.items()}
    assert numbers == {"none": None, "label_consistency": 2, "published": 0, "best": 3}
    assert found.variants["none"].sigma == pytest.approx(0.2)
    assert (len(found.trials), len(found.bare)) == (4, 2)
    assert found.variants["best"].accuracy == pytest.approx(2 / 3)
    # No other sigma was better for the published values.
    assert found.further == {"published_best_sigma": found.variants["published"]}
    swept = [*contenders, contender("published_sigma", 6)]
    for level, stronger in ((0.25, 6), (0.05, 0)):
        further = choose_variants(swept, [*scores, scored(level)], config).further
        found_numbers = {v: c.trial and c.trial.number for v, c in further.items()}
        assert found_numbers == {"published_best_sigma": stronger}
    with pytest.raises(AllTrialsFailed, match="label_consistency diverged"):
        choose_variants([contenders[0], *contenders[3:]], scores[:1] + scores[3:], config)


def test_the_best_is_the_highest_of_those_that_are_tied() -> None:
    contenders = [
        contender("published", 0),
        contender("label_consistency", 1),
        contender("search", 5),
        contender("search", 6),
        contender(None),
    ]
    scores = [scored(level) for level in (0.2, 0.1, 0.6, 0.6, 0.4)]
    found = choose_variants(contenders, scores, make_config({"name": "x"}))
    assert [c.trial and c.trial.number for c in found.tied] == [5, 6]
    assert found.variants["best"] is found.tied[0]
