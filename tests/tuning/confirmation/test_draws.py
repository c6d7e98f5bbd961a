import math

import numpy as np
import pytest

from tuning.confirmation.draws import Draws

FOLDS, IMAGES, CONFIRMATIONS = 4, 15, 3000


def mean_and_error(fold: float, image: float, repeated: bool) -> tuple[float, float, float]:
    """Of simulated confirmations: deviation of the mean, root mean square error, and naive one.

    A training varies by `fold`, an image by `image`; with `repeated`, all folds have the same ones.
    """
    generator = np.random.default_rng(0)
    folds = np.repeat(np.arange(FOLDS), IMAGES)
    images = np.tile(np.arange(IMAGES), FOLDS) if repeated else np.arange(FOLDS * IMAGES)
    draws = Draws(tuple(folds.tolist()), tuple(images.tolist()))
    means, variances, naive = [], [], []
    for _ in range(CONFIRMATIONS):
        scores = generator.normal(0, fold, FOLDS)[folds]
        scores = scores + generator.normal(0, image, images.max() + 1)[images]
        scores += generator.normal(0, 0.1, len(scores))
        means.append(scores.mean())
        variances.append(draws.standard_error(scores) ** 2)
        naive.append(scores.var(ddof=1) / len(scores))
    return float(np.std(means)), math.sqrt(np.mean(variances)), math.sqrt(np.mean(naive))


@pytest.mark.parametrize(
    ("fold", "image", "repeated"),
    [(0.1, 0.1, False), (0.2, 0.1, False), (0.0, 0.3, True), (0.2, 0.2, True)],
)
def test_the_error_is_how_much_confirmations_with_other_folds_and_images_differ(
    fold: float, image: float, repeated: bool
) -> None:
    deviation, error, naive = mean_and_error(fold, image, repeated)
    assert error == pytest.approx(deviation, rel=0.12)
    assert naive < 0.7 * deviation


def test_without_an_effect_of_the_folds_the_error_is_hardly_larger_than_that_of_images() -> None:
    deviation, error, naive = mean_and_error(0.0, 0.2, repeated=False)
    assert naive == pytest.approx(deviation, rel=0.05)
    assert deviation * 0.97 < error < 1.2 * deviation


def test_the_example_of_the_docstring() -> None:
    draws = Draws(folds=(0, 0, 1, 1), images=(3, 8, 4, 7))
    assert draws.standard_error([0.5, 0.7, 0.2, 0.4]) == pytest.approx(0.15)


def test_equal_scores_have_no_error_and_a_single_one_says_nothing() -> None:
    assert Draws((0, 0, 1), (1, 2, 3)).standard_error([0.5] * 3) == 0
    assert Draws((0,), (1,)).standard_error([0.5]) == math.inf


def test_one_fold_leaves_the_error_of_its_images() -> None:
    scores = [0.1, 0.2, 0.6, 0.7]
    expected = np.std(scores, ddof=1) / 2
    assert Draws((0,) * 4, (5, 6, 7, 8)).standard_error(scores) == pytest.approx(expected)
