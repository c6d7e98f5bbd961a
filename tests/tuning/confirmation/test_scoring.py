import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from trainables.data.splits import Shots
from trainables.smoothing.objective import Objective, clean_accuracy
from trainables.smoothing.prediction import Certification
from tuning.cluster.pool import TaskPool, Urgency
from tuning.cluster.resources import Resources
from tuning.config import make_config
from tuning.confirmation.scoring import FoldScores, Scorer
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Outcome, VoteJob
from tuning.votes.store import VoteStore

RADII = (0.0, 0.1, 0.3)
CLASSES, FEW, VOTES, N0, N = 3, 100, 400, 10, 1000


class PretendedCounter(VoteCounter):
    """Lets every image get as many votes for its true class as `right` says, of those asked for.

    Of the first votes, a tenth more are for it. The rest are for the next class.
    """

    async def count(
        self, job: VoteJob[Any], urgency: Urgency, advance: Callable[[int], None]
    ) -> list[Outcome[Any]]:
        advance(len(job.indices) * job.most)
        return [Outcome(voted(job, index), 0.0) for index in job.indices]


def voted(job: VoteJob[Any], index: int) -> Any:
    evaluation = job.evaluate()
    assert next(evaluation) == ("confirm", 0, FEW)
    first = right(job, index) * FEW // VOTES + FEW // 10
    assert evaluation.send(split(index, first, FEW)) == ("confirm", FEW, VOTES)
    with pytest.raises(StopIteration) as ended:
        evaluation.send(split(index, right(job, index) - first, VOTES - FEW))
    return ended.value.value


def split(index: int, right: int, cast: int) -> list[int]:
    counts = [0] * CLASSES
    counts[index % CLASSES], counts[(index + 1) % CLASSES] = right, cast - right
    return counts


def right(job: VoteJob[Any], index: int) -> int:
    """Different for each model, each image and each sigma."""
    return 200 + 16 * int(job.model_hash) + 4 * index + (80 if job.noise.sigma > 0.3 else 0)


def fold(*indices: int) -> Shots:
    images = torch.zeros(len(indices), 1, 2, 2)
    labels = torch.tensor([index % CLASSES for index in indices])
    return Shots(images[:0], labels[:0], [], images, labels, list(indices))


def voter(number: int) -> Voter:
    return Voter(nn.Identity(), str(number))


def scores(objective: str, tuned: Sequence[int], tmp_path: Path) -> list[FoldScores]:
    """Of two contenders, the second under more noise, on two folds of different sizes."""
    votes = {"confirm_votes": VOTES, "tuning_votes": FEW - 50, "n": N, "n0": N0}
    config = make_config({"name": "x", "objective": objective, **votes})
    pool = TaskPool(Resources(1, 0.0, 1))
    counter = PretendedCounter(VoteStore(tmp_path / "votes.db"), "float32", pool)
    setting: Any = SimpleNamespace(radii=RADII, shots=SimpleNamespace(tuning_indices=tuned))
    folds, done = [fold(0, 1, 2), fold(3, 4)], list[int]()
    scorer = Scorer("x", setting, folds, config, 7, counter, done.append)

    async def scored(sigma: float, *numbers: int) -> FoldScores:
        counted = [
            await scorer.count(voter(number), one, sigma)
            for number, one in zip(numbers, folds, strict=True)
        ]
        return scorer.scores(sigma, counted)

    found = [asyncio.run(scored(0.25, 1, 2)), asyncio.run(scored(0.5, 3, 3))]
    scorer.forgo(folds[0])
    assert done == [3 * VOTES, 2 * VOTES, 3 * VOTES, 2 * VOTES, 3 * VOTES]
    return found


def counts(models: Sequence[int], more: int) -> list[int]:
    return [200 + 16 * model + 4 * index + more for index, model in enumerate(models)]


@pytest.mark.parametrize("objective", ["acr", "certified-accuracy", "certified-accuracy@0.1"])
def test_scores_are_those_of_each_folds_own_model_on_its_own_images(
    tmp_path: Path, objective: str
) -> None:
    found = scores(objective, [], tmp_path)
    labels = [index % CLASSES for index in range(5)]
    for own, sigma, right in zip(
        found, (0.25, 0.5), (counts((1, 1, 1, 2, 2), 0), counts((3,) * 5, 80)), strict=True
    ):
        votes = np.array([split(index, count, VOTES) for index, count in enumerate(right)])
        certification = Certification(N0, N, sigma, 0.001)
        expected = Objective.parse(objective, RADII).scores(votes, labels, certification)
        assert own.objective == pytest.approx(expected)
        assert own.correct == pytest.approx(clean_accuracy(votes, labels, certification))
        assert own.correct.sum() > 0.1
        assert own.draws == ((0, 0, 0, 1, 1), (0, 1, 2, 3, 4))


def test_unseen_are_the_images_the_search_did_not_tune_on_with_as_many_votes(
    tmp_path: Path,
) -> None:
    own, _ = scores("certified-accuracy", [0, 4], tmp_path)
    right = [count * FEW // VOTES + FEW // 10 for count in counts((1, 1, 1, 2, 2), 0)]
    votes = np.array([split(index, right[index], FEW) for index in (1, 2, 3)])
    expected = Objective(RADII).scores(votes, [1, 2, 0], Certification(N0, N, 0.25, 0.001))
    assert own.unseen == pytest.approx(expected.mean())


def test_without_unseen_images_there_is_no_score_on_them(tmp_path: Path) -> None:
    own, _ = scores("certified-accuracy", range(5), tmp_path)
    assert own.unseen is None
