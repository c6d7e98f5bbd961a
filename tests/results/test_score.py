from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from results.score import Answers
from tests.support.invented import certificate_rows

RADII = (0.0, 0.25, 0.5)
label_lists = st.lists(st.integers(0, 4), min_size=2, max_size=60)


def answers(labels: list[int], predicted: list[int], radius: list[float]) -> Answers:
    pairs = zip(labels, predicted, radius, strict=True)
    return Answers.of(
        [
            {"image_index": i, "label": label, "predicted": answer, "radius": r, "joint_radius": r}
            for i, (label, answer, r) in enumerate(pairs)
        ]
    )


def naive(labels: list[int], predicted: list[int], radius: list[float], at: float) -> float:
    """The mean over the classes of each one's mean mark."""
    classes = sorted(set(labels))
    means = []
    for one in classes:
        marks: list[float] = []
        for label, answer, r in zip(labels, predicted, radius, strict=True):
            if label == one:
                wrong = -1 / (len(classes) - 1)
                marks.append(0 if answer == -1 or r < at else 1 if answer == label else wrong)
        means.append(sum(marks) / len(marks))
    return sum(means) / len(means)


@given(labels=label_lists, answer=st.integers(0, 4), radius=st.floats(0, 4))
def test_always_the_same_answer_scores_nothing_however_frequent_its_class(
    labels: list[int], answer: int, radius: float
) -> None:
    answer = labels[answer % len(labels)]
    constant = answers(labels, [answer] * len(labels), [radius] * len(labels))
    assert constant.scores(RADII).mean() == pytest.approx(0, abs=1e-12)


@given(labels=label_lists, data=st.data())
def test_the_score_is_the_mean_mark_of_the_classes(labels: list[int], data: st.DataObject) -> None:
    size = len(labels)
    predicted = data.draw(st.lists(st.integers(-1, 5), min_size=size, max_size=size))
    radius = data.draw(
        st.lists(st.sampled_from([0.0, 0.2, 0.25, 0.6]), min_size=size, max_size=size)
    )
    found = answers(labels, predicted, radius).scores(RADII).mean()
    expected = 0.0
    if len(set(labels)) > 1:
        expected = float(np.mean([naive(labels, predicted, radius, at) for at in RADII]))
    assert found == pytest.approx(expected, abs=1e-12)


def test_every_image_right_at_every_radius_scores_one() -> None:
    labels = [0, 0, 0, 1, 2]
    assert answers(labels, labels, [0.5] * 5).scores(RADII).mean() == pytest.approx(1)
    assert answers(labels, labels, [0.3] * 5).scores(RADII).mean() == pytest.approx(2 / 3)


def test_images_of_one_class_cannot_tell_knowing_from_guessing() -> None:
    assert not answers([3, 3], [3, 3], [1.0, 1.0]).scores(RADII).any()


def test_a_constant_answer_is_not_above_guessing_but_an_average_radius_pays_it() -> None:
    labels = np.random.default_rng(0).integers(0, 10, 500).tolist()
    constant = answers(labels, [3] * 500, [1.9] * 500)
    found = constant.score(RADII)
    assert found.low < 0 < found.high
    assert np.mean(constant.right(0) * constant.radius) > 0.15


def test_right_and_wrong_need_the_radius_and_an_abstention_is_neither() -> None:
    found = answers([0, 0, 0, 1], [0, 1, -1, 1], [0.25, 0.3, 0.0, 0.1])
    assert found.right(0.25).tolist() == [True, False, False, False]
    assert found.wrong(0.25).tolist() == [False, True, False, False]
    assert found.wrong(0.31).tolist() == [False] * 4
    assert found.right(0).tolist() == [True, False, False, True]


def test_answers_are_in_order_of_the_images() -> None:
    rows = certificate_rows("best", 30)
    shuffled: Any = Answers.of(rows[::-1])
    assert shuffled.scores(RADII).tolist() == Answers.of(rows).scores(RADII).tolist()


def test_unequal_classes_do_not_widen_the_interval_of_a_constant_score() -> None:
    labels = [0] * 18 + [1, 2]
    right = answers(labels, labels, [0.5] * 20)
    assert right.scores((0.0, 0.25)) == pytest.approx(np.ones(20))
    half = answers(labels, labels, [0.3] * 20).score(RADII)
    assert half.value == pytest.approx(2 / 3)
    assert half.low > 0.35


def test_a_score_of_one_image_says_next_to_nothing() -> None:
    found = answers([3], [3], [1.0]).score(RADII)
    assert found.value == 0
    assert found.low < -0.5 < 0.5 < found.high


def test_a_score_without_radii_is_refused() -> None:
    with pytest.raises(ValueError, match="radius"):
        answers([0, 1], [0, 1], [1.0, 1.0]).scores(())


@pytest.mark.parametrize(
    ("predicted", "most"),
    [
        ([2, 2, 1, -1, -1], (2, 0.4, 0.2)),
        ([-1, -1, -1, -1, 0], (0, 0.2, 0.4)),
        ([-1] * 5, (None, 0.0, 0.0)),
    ],
)
def test_the_most_frequent_answer_is_a_class(
    predicted: list[int], most: tuple[int | None, float, float]
) -> None:
    assert answers([0, 0, 1, 1, 2], predicted, [0.1] * 5).most_frequent() == most


def test_jointly_right_is_the_true_class_with_a_joint_radius() -> None:
    rows = [
        {"image_index": i, "label": 1, "predicted": predicted, "radius": 0.5, "joint_radius": joint}
        for i, (predicted, joint) in enumerate(
            [(1, 0.4), (2, 0.4), (1, None), (-1, None), (1, 0.0)]
        )
    ]
    found = Answers.of(rows)
    assert found.jointly_right(0).tolist() == [True, False, False, False, True]
    assert found.jointly_right(0.4).tolist() == [True, False, False, False, False]
    assert not found.jointly_right(0.45).any()
