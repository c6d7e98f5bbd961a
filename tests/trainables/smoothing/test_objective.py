"""What a search maximises."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables.choices import DEFAULT_RADII
from trainables.errors import InputError
from trainables.smoothing.bounds import certified_radius
from trainables.smoothing.objective import Objective, Score, clean_accuracy
from trainables.smoothing.prediction import Certification
from trainables.smoothing.procedures import Fixed, Pilot, Tally

CERTIFICATION = Certification(100, 10_000, 0.25, 0.001)
# Votes for each class of test images: of digits, and of a ResNet-20 on CIFAR-10, which under more
# noise answers nearly always the same.
VOTES: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("votes.json").read_text())


def constant(answer: int, images: int, classes: int, cast: int = 400) -> np.ndarray:
    """Votes of a classifier that always gives the same answer."""
    votes = np.zeros((images, classes), dtype=np.int64)
    votes[:, answer] = cast
    return votes


@given(labels=st.lists(st.integers(0, 4), min_size=2, max_size=40), answer=st.integers(0, 4))
def test_a_constant_answer_gains_nothing_however_rare_its_class(
    labels: list[int], answer: int
) -> None:
    votes = constant(answer, len(labels), 5)
    mean = Score.of(Objective().scores(votes, labels, CERTIFICATION)).mean
    if answer in labels and len(set(labels)) > 1:
        assert mean == pytest.approx(0, abs=1e-9)
    elif answer not in labels:
        assert mean < 0


def test_answers_that_do_not_look_at_the_image_expect_nothing() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(20_000) % 10
    votes = np.zeros((len(labels), 10), dtype=np.int64)
    favoured = generator.choice(10, len(labels), p=[0.7, 0.1, 0.1, 0.1, 0, 0, 0, 0, 0, 0])
    votes[np.arange(len(labels)), favoured] = 400
    score = Score.of(Objective().scores(votes, labels, CERTIFICATION))
    assert abs(score.mean) < 4 * score.standard_error


def test_the_acr_pays_a_constant_answer() -> None:
    labels = np.arange(100) % 10
    paid = Objective(None).scores(constant(3, 100, 10), labels, CERTIFICATION).mean()
    assert paid > 0.07


def test_certified_right_counts_one_wrong_is_subtracted_and_an_abstention_is_nothing() -> None:
    votes = np.array([[10_000, 0, 0], [10_000, 0, 0], [5000, 5000, 0]])
    radius = certified_radius(9_900, 10_000, 0.25, 0.001)
    scores = Objective((0.0, radius)).scores(votes, [0, 1, 2], CERTIFICATION)
    assert scores.tolist() == pytest.approx([1, -0.5, 0], abs=0.01)


def test_classes_weigh_the_same_however_many_images_they_have() -> None:
    votes = np.array([[400, 0]] * 3 + [[0, 400]])
    scores = Objective((0.0,)).scores(votes, [0, 0, 0, 1], CERTIFICATION)
    assert scores.tolist() == pytest.approx([2 / 3] * 3 + [2])


def certified(shares: np.ndarray, labels: np.ndarray, certification: Certification) -> float:
    """The mean mark at the default radii of certificates from votes in these shares."""
    n0, n, sigma, alpha = certification
    marks = []
    for image, label in zip(shares, labels, strict=True):
        pilot, fresh = (np.round(image * votes).astype(int).tolist() for votes in (n0, n))
        picked = Pilot.of(n0, pilot)
        claim = Fixed(n0, n, alpha).claim(picked, [Tally.of(n, fresh, picked.picked)], sigma)
        mark = 1 if picked.picked == label else -1 / 9
        marks.append(np.mean([mark * (0 < claim.radius >= at) for at in DEFAULT_RADII]))
    # The images of a class share its weight.
    return float(np.average(marks, weights=1 / np.bincount(labels)[labels]))


@pytest.mark.parametrize("run", VOTES)
@pytest.mark.parametrize(("cast", "within"), [(400, 0.015), (100, 0.03)])
def test_a_few_votes_predict_what_many_certify(run: str, cast: int, within: float) -> None:
    counts, labels = np.array(VOTES[run]["votes"]), np.array(VOTES[run]["labels"])
    certification = CERTIFICATION._replace(sigma=VOTES[run]["sigma"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    generator = np.random.default_rng(0)
    drawn = [generator.multinomial(cast, shares) for _ in range(20)]
    found = [Objective().scores(votes, labels, certification).mean() for votes in drawn]
    assert np.mean(found) == pytest.approx(certified(shares, labels, certification), abs=within)


@pytest.mark.parametrize("run", VOTES)
def test_which_votes_are_cast_matters_less_than_which_images_are_scored(run: str) -> None:
    # So more votes for an image would say little more about a denoiser.
    counts, labels = np.array(VOTES[run]["votes"]), np.array(VOTES[run]["labels"])
    certification = CERTIFICATION._replace(sigma=VOTES[run]["sigma"])
    shares, generator = counts / counts.sum(axis=1, keepdims=True), np.random.default_rng(0)
    drawn = [generator.multinomial(400, shares) for _ in range(20)]
    found = [Score.of(Objective().scores(votes, labels, certification)) for votes in drawn]
    by_votes = np.std([score.mean for score in found], ddof=1)
    assert by_votes < 0.3 * np.mean([score.standard_error for score in found])


def test_the_clean_accuracy_is_that_at_radius_zero_and_wrong_answers_cost_nothing() -> None:
    votes = np.array([[400, 0], [400, 0], [200, 200]])
    found = clean_accuracy(votes, [0, 1, 0], CERTIFICATION)
    assert found.tolist() == pytest.approx([1, 0, 0], abs=0.35)
    assert found[2] < 0.35


def test_a_single_image_has_no_standard_error() -> None:
    assert Score.of([0.5]) == Score(0.5, 0.0)


def test_the_standard_error_is_that_of_the_mean() -> None:
    scores = [0.1, 0.5, 0.3, 0.9]
    found = Score.of(scores)
    assert found.mean == pytest.approx(0.45)
    assert found.standard_error == pytest.approx(np.std(scores, ddof=1) / 2)


@pytest.mark.parametrize(
    ("text", "radii"),
    [
        ("acr", None),
        ("certified-accuracy", (0.1, 0.2)),
        ("pareto", (0.1, 0.2)),
        ("certified-accuracy@0.5", (0.5,)),
        ("certified-accuracy@0,1,1.5", (0.0, 1.0, 1.5)),
    ],
)
def test_objectives_are_read_from_text(text: str, radii: tuple[float, ...] | None) -> None:
    assert Objective.parse(text, (0.1, 0.2)) == Objective(radii)


@pytest.mark.parametrize(
    "text",
    ["", "ACR", "acr ", "accuracy", "certified-accuracy@",
     "certified-accuracy@-1", "certified-accuracy@.5", "certified-accuracy@x",
     "certified-accuracy@nan", "certified-accuracy@1e3", "certified-accuracy@0.5\n"],
)  # fmt: skip
def test_an_unknown_objective_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="objective") as caught:
        Objective.parse(text, DEFAULT_RADII)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)


def test_radii_of_an_objective_must_ascend() -> None:
    with pytest.raises(InputError, match="ascend"):
        Objective.parse("certified-accuracy@0.5,0.25", DEFAULT_RADII)
