from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from trainables.data.splits import Shots
from trainables.smoothing.bounds import certified_radius
from tuning.cluster.resources import Resources
from tuning.config import make_config
from tuning.confirmation.scoring import Contender, Scorer
from tuning.votes.counter import VoteCounter, Voter
from tuning.votes.job import Outcome, VoteJob
from tuning.votes.store import VoteStore

CLASSES, VOTES, N = 3, 100, 1000


class PretendedCounter(VoteCounter):
    """Lets every image get as many votes for its true class as `right` says, of `VOTES`."""

    def count(
        self, jobs: Sequence[VoteJob[Any]], advance: Callable[[int], None]
    ) -> list[list[Outcome[Any]]]:
        outcomes: list[list[Outcome[Any]]] = []
        for job in jobs:
            outcomes.append([])
            for index in job.indices:
                evaluation = job.evaluate()
                assert next(evaluation) == ("confirm", 0, VOTES)
                counts = [VOTES - right(job, index)] * CLASSES
                counts[index % CLASSES] = right(job, index)
                with pytest.raises(StopIteration) as ended:
                    evaluation.send(counts)
                outcomes[-1].append(Outcome(ended.value.value, 0.0))
        return outcomes


def right(job: VoteJob[Any], index: int) -> int:
    """Different for each model, each image and each sigma."""
    return 50 + 4 * int(job.model_hash) + index + (20 if job.noise.sigma > 0.3 else 0)


def fold(*indices: int) -> Shots:
    images = torch.zeros(len(indices), 1, 2, 2)
    labels = torch.tensor([index % CLASSES for index in indices])
    return Shots(images[:0], labels[:0], [], images, labels, list(indices))


def voter(number: int) -> Voter:
    return Voter(nn.Identity(), str(number))


@pytest.mark.parametrize("objective", ["acr", "certified-accuracy@0.1"])
def test_scores_are_those_of_each_folds_own_model_on_its_own_images(
    tmp_path: Path, objective: str
) -> None:
    config = make_config(
        {"name": "x", "objective": objective, "confirm_votes": VOTES, "n": N, "n0": 10}
    )
    counter = PretendedCounter(VoteStore(tmp_path / "votes.db"), "float32", Resources(1, 0.0, 1))
    # Of different sizes, so that no image can be taken for another fold's.
    folds = [fold(0, 1, 2), fold(3, 4)]
    scorer = Scorer("x", folds, config, 7, counter)
    contenders = [
        Contender(None, 0.25, [voter(1), voter(2)]),
        Contender(None, 0.5, [voter(3), voter(3)]),
    ]
    found = scorer.score(contenders, lambda votes: None)
    for scores, sigma, models in zip(found, (0.25, 0.5), ((1, 1, 1, 2, 2), (3,) * 5), strict=True):
        votes = [50 + 4 * m + i + (20 if sigma > 0.3 else 0) for i, m in enumerate(models)]
        shares = [(v + 0.5) / (VOTES + 1) for v in votes]
        radii = [certified_radius(int(share * N), N, sigma, config.alpha) for share in shares]
        expected = radii if objective == "acr" else [float(r >= 0.1) for r in radii]
        assert scores.objective == pytest.approx(expected)
        assert scores.correct == [float(r > 0) for r in radii]
        assert sum(scores.correct) > 0
