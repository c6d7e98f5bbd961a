"""Intervals cover as often as they say, for certificates as they are found on real images."""

import json
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import beta, norm

from results.curves import Estimate, average_certified_radius, certified_accuracy, paired_difference
from results.score import Answers
from tests.support.invented import RADII, certificate_rows

COUNTS = Path(__file__).parents[1] / "trainables/smoothing/votes.json"
N, ALPHA, SAMPLES = 10_000, 0.001, 400
# The radius of N equal votes, in units of sigma.
MOST = float(norm.ppf(ALPHA ** (1 / N)))

Statistic = Callable[[Answers, Answers, float], Estimate]


def certified(votes: list[list[int]], labels: list[int], sigma: float) -> Answers:
    """What N votes certify if the shares of `votes` [images, classes] are the probabilities."""
    counts = np.array(votes)
    shares = counts.max(axis=1) / counts.sum(axis=1)
    top = np.random.default_rng(0).binomial(N, shares)
    radius = sigma * norm.ppf(beta.ppf(ALPHA, top, N - top + 1))
    predicted = np.where(radius > 0, counts.argmax(axis=1), -1)
    return Answers(np.array(labels), predicted, np.maximum(radius, 0), radius)


@cache
def populations() -> list[tuple[Answers, Answers, float]]:
    """Pairs of variants on the same images, and the larger sigma."""
    counts = json.loads(COUNTS.read_text())
    digits = [
        certified(**{k: counts[name][k] for k in ("votes", "labels", "sigma")})
        for name in ("digits, best", "digits, none")
    ]
    invented = [Answers.of(certificate_rows(name, 1000)) for name in ("best", "published", "none")]
    pairs = [(mine, theirs, 0.375) for mine, theirs in pairwise(invented)]
    return [(digits[0], digits[1], 0.25), *pairs]


def part(answers: Answers, images: np.ndarray) -> Answers:
    arrays = (answers.label, answers.predicted, answers.radius, answers.joint)
    return Answers(*(each[images] for each in arrays))


def gained(answers: Answers) -> np.ndarray:
    return answers.right(0) * answers.radius


STATISTICS: dict[str, Statistic] = {
    "share": lambda a, b, sigma: certified_accuracy(a.right(0), a.radius, 0.25),
    "acr": lambda a, b, sigma: average_certified_radius(a.right(0), a.radius, MOST * sigma),
    "score": lambda a, b, sigma: a.score(RADII),
    "difference of shares": lambda a, b, sigma: paired_difference(a.right(0.5), b.right(0.5)),
    "difference of acr": lambda a, b, sigma: paired_difference(gained(a), gained(b), MOST * sigma),
    "difference of scores": lambda a, b, sigma: paired_difference(
        a.scores(RADII), b.scores(RADII), 1 - a.lowest_mark
    ),
}


def coverage(statistic: Statistic, images: int) -> list[float]:
    """How often the interval from so many images has the value of the population, for each."""
    generator = np.random.default_rng(1)
    found = []
    for mine, theirs, sigma in populations():
        truth = statistic(mine, theirs, sigma).value
        drawn = generator.integers(len(mine.label), size=(SAMPLES, images))
        intervals = [statistic(part(mine, i), part(theirs, i), sigma) for i in drawn]
        found.append(float(np.mean([each.low <= truth <= each.high for each in intervals])))
    return found


@pytest.mark.parametrize("images", [10, 20, 50, 200])
@pytest.mark.parametrize("name", STATISTICS)
def test_95_percent_of_the_intervals_cover(name: str, images: int) -> None:
    found = coverage(STATISTICS[name], images)
    # Among few images differences are often all zero, which cannot be told from rare ones.
    assert 0.93 <= np.mean(found) <= {10: 0.99, 20: 0.98}.get(images, 0.97), found
    assert min(found) > 0.9, found


def test_an_interval_of_no_width_for_equal_images_would_be_found() -> None:
    def naive(a: Answers, b: Answers, sigma: float) -> Estimate:
        lost = a.right(0.25) * 1.0 - b.right(0.25)
        half = 1.96 * lost.std() / np.sqrt(len(lost))
        return Estimate(lost.mean(), lost.mean() - half, lost.mean() + half)

    assert min(coverage(naive, 10)) < 0.9
