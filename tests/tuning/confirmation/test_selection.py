import math
from typing import Any

import numpy as np
import pytest

from tests.support.records import record
from trainables.smoothing.objective import Score
from tuning.confirmation.draws import Draws
from tuning.confirmation.selection import Confirmed, highest, pareto_front, shortlisted, tied
from tuning.errors import AllTrialsFailed, ConfigError


def confirmed(
    number: int, scores: list[float], confirmed_accuracy: float = 0.9, **changes: Any
) -> Confirmed:
    trial, half = record(number, **changes), len(scores) // 2
    draws = Draws((0,) * half + (1,) * (len(scores) - half), tuple(range(len(scores))))
    score = Score(float(np.mean(scores)), draws.standard_error(scores))
    return Confirmed(trial, 0.25, score, tuple(scores), draws, confirmed_accuracy)


def choose(candidates: list[Confirmed], min_accuracy: float | None = None) -> Confirmed:
    return highest(tied(candidates, min_accuracy))


EASY_AND_HARD = [0.1, 0.9, 0.2, 0.8, 0.3, 0.7]
SIMPLE = {"w_cosine": 0.0, "w_mmd": 0.0, "reversal_strength": 0.0}


def test_the_highest_of_those_that_cannot_be_told_apart_is_chosen() -> None:
    # A little better on average, but not image by image.
    noisy = [
        s + d for s, d in zip(EASY_AND_HARD, [0.05, -0.04, 0.05, -0.04, 0.02, -0.03], strict=True)
    ]
    full, simple = confirmed(1, noisy), confirmed(2, EASY_AND_HARD, **SIMPLE)
    assert tied([simple, full]) == [simple, full]
    assert choose([full, simple]) is full
    assert choose([simple, full]) is full


def test_what_is_better_on_every_image_is_told_apart_however_large_the_spread_of_images() -> None:
    better = [s + 0.01 + 0.001 * i for i, s in enumerate(EASY_AND_HARD)]
    full, simple = confirmed(1, better), confirmed(2, EASY_AND_HARD, **SIMPLE)
    assert full.score.mean - simple.score.mean < simple.score.standard_error / 5
    assert tied([full, simple]) == [full]


@pytest.mark.parametrize(("errors", "apart"), [(0.9, False), (1.1, True)])
def test_as_good_means_within_one_standard_error_of_the_difference(
    errors: float, apart: bool
) -> None:
    # Differences of 0.1 up and down around their mean: the deviation is 0.1 sqrt(16 / 15), and the
    # standard error a quarter of that.
    mean = errors * 0.1 / math.sqrt(15)
    scores = [0.5 + mean + (0.1 if i % 2 else -0.1) for i in range(16)]
    full, simple = confirmed(1, scores), confirmed(2, [0.5] * 16, **SIMPLE)
    assert tied([full, simple]) == ([full] if apart else [full, simple])


def test_what_is_better_on_one_fold_only_may_have_been_a_better_training() -> None:
    # Twice as much in the first fold as the standard error of independent images.
    scores = [0.5 + (0.2 if i < 8 else 0.0) + (0.01 if i % 2 else -0.01) for i in range(16)]
    full, simple = confirmed(1, scores), confirmed(2, [0.5] * 16, **SIMPLE)
    lost = np.subtract(scores, 0.5)
    assert lost.mean() > 3 * lost.std(ddof=1) / 4
    assert tied([full, simple]) == [full, simple]


def test_of_equal_scores_the_first_is_chosen() -> None:
    scores = [EASY_AND_HARD, [s + 1e-9 for s in EASY_AND_HARD], EASY_AND_HARD]
    candidates = [confirmed(number, found) for number, found in enumerate(scores)]
    assert choose(candidates) is candidates[1]
    assert choose(candidates[::2]) is candidates[0]


BASELINES = [
    record(0, "published", 0.4),
    record(1, "label_consistency", 0.3),
    record(2, "label_consistency", 0.35),
    record(3, "mse", 0.2),
    record(4, "mse", 0.1),
]


def test_the_shortlist_is_the_best_of_each_baseline_and_of_the_search() -> None:
    searched = [record(5 + i, objective=o) for i, o in enumerate((0.1, 0.6, 0.5, 0.6, 0.9))]
    searched[4] = record(9, objective=0.9, state="pruned")
    searched.append(record(10, "start", 0.55))
    searched.append(record(11, "transferred", 0.3))
    numbers = [r.number for r in shortlisted([*BASELINES, *searched], 3)]
    assert numbers == [0, 2, 3, 6, 8, 10]


def test_published_is_shortlisted_as_it_is_and_at_its_best_sigma() -> None:
    better = record(5, "published_sigma", 0.45)
    others = [better, record(6, "published_sigma", 0.42), record(7, objective=0.1)]
    assert [r.number for r in shortlisted([*BASELINES, *others], 3)] == [0, 5, 2, 3, 7]
    worse = record(5, "published_sigma", 0.39)
    assert [r.number for r in shortlisted([*BASELINES, worse], 3)] == [0, 2, 3]


def test_a_variant_without_a_complete_trial_is_an_error_with_its_reason() -> None:
    failed = record(0, "published", state="failed", error="loss term mmd became nan")
    with pytest.raises(AllTrialsFailed, match=r"published.*mmd became nan"):
        shortlisted([failed, *BASELINES[1:]], 3)
    # Not certified, and so not missed.
    assert [r.number for r in shortlisted(BASELINES[:3], 3)] == [0, 2]


def test_of_a_pareto_search_the_front_is_shortlisted_the_ends_first() -> None:
    scores = [(0.9, 0.2), (0.8, 0.3), (0.5, 0.4), (0.85, 0.1), (0.79, 0.31)]
    searched = [record(5 + i, objective=o, accuracy=a) for i, (a, o) in enumerate(scores)]
    found = [
        {r.number for r in shortlisted([*BASELINES, *searched], top, pareto=True)[3:]}
        for top in (2, 3, 4, 5)
    ]
    assert found == [{5, 7}, {5, 7, 9}, {5, 7, 9, 6}, {5, 7, 9, 6, 8}]


def test_the_front_is_named_from_the_most_accurate_on() -> None:
    points = [(0.5, 0.4), (0.9, 0.2), (0.4, 0.3), (0.8, 0.3)]
    candidates = [confirmed(i, [score] * 4, accuracy) for i, (accuracy, score) in enumerate(points)]
    front = pareto_front(candidates)
    assert {name: c.trial and c.trial.number for name, c in front.items()} == {
        "front-1": 1,
        "front-2": 3,
        "front-3": 0,
    }


def test_a_minimum_of_clean_accuracy_comes_before_the_score() -> None:
    scores = ((0.5, 0.6), (0.4, 0.8), (0.3, 0.9))
    candidates = [
        confirmed(i, [s + 0.01 * k for k in range(6)], accuracy)
        for i, (s, accuracy) in enumerate(scores)
    ]
    assert choose(candidates) is candidates[0]
    assert choose(candidates, 0.7) is candidates[1]
    assert choose(candidates, 0.9) is candidates[2]
    with pytest.raises(ConfigError, match=r"--min-accuracy: .* reached 0\.91; .* has 0\.9;"):
        choose(candidates, 0.91)
