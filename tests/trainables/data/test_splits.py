from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.data.datasets import Dataset, TensorImages, load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import certification_indices, draw_shots
from trainables.errors import InputError


def numbered(per_class: int, classes: int = 3) -> Dataset:
    """A data set whose every image holds its own number, with the labels interleaved."""
    labels = torch.arange(per_class * classes) % classes
    images = torch.arange(len(labels)).float().view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    part = TensorImages(images, labels)
    return Dataset("numbered", tuple(f"class-{i}" for i in range(classes)), part, part)


@settings(deadline=None)
@given(count=st.integers(2, 60), seed=st.integers(0, 2**32))
def test_every_class_has_the_same_number_of_shots(count: int, seed: int) -> None:
    shots = draw_shots(numbered(60), ShotCount(str(count)), seed)
    train, tuning = torch.bincount(shots.train_labels), torch.bincount(shots.tuning_labels)
    assert (train + tuning).tolist() == [count] * 3
    assert len(set(tuning.tolist())) == 1
    assert train.min() >= 1
    assert tuning.min() >= 1


@settings(deadline=None)
@given(count=st.integers(2, 30), seed=st.integers(0, 2**32))
def test_training_and_tuning_shots_are_distinct_images(count: int, seed: int) -> None:
    shots = draw_shots(numbered(30), ShotCount(str(count)), seed)
    drawn = shots.train_indices + shots.tuning_indices
    assert len(set(drawn)) == len(drawn) == 3 * count


@pytest.mark.parametrize(("count", "held_out"), [(2, 1), (5, 1), (10, 2), (50, 10)])
def test_one_shot_in_five_is_held_out_and_at_least_one(count: int, held_out: int) -> None:
    shots = draw_shots(numbered(50), ShotCount(str(count)), seed=0)
    assert torch.bincount(shots.tuning_labels).tolist() == [held_out] * 3


def test_images_and_labels_belong_to_their_indices() -> None:
    dataset = numbered(20)
    drawn = draw_shots(dataset, ShotCount("10"), seed=3)
    for shots in (drawn, drawn.fold(0, seed=1), drawn.fold(3, seed=1)):
        assert shots.train_images[:, 0, 0, 0].tolist() == shots.train_indices
        assert shots.tuning_images[:, 0, 0, 0].tolist() == shots.tuning_indices
        assert torch.equal(shots.train_labels, dataset.train.labels[shots.train_indices])
        assert torch.equal(shots.tuning_labels, dataset.train.labels[shots.tuning_indices])


def test_the_same_seed_draws_the_same_shots() -> None:
    digits = load_dataset("digits")
    first, again = (
        draw_shots(digits, ShotCount("10"), seed=7),
        draw_shots(digits, ShotCount("10"), seed=7),
    )
    assert first.train_indices == again.train_indices
    assert first.tuning_indices == again.tuning_indices
    assert torch.equal(first.train_images, again.train_images)


def test_another_seed_draws_other_shots() -> None:
    digits = load_dataset("digits")
    first, other = (
        draw_shots(digits, ShotCount("10"), seed=7),
        draw_shots(digits, ShotCount("10"), seed=8),
    )
    assert set(first.train_indices) != set(other.train_indices)


def test_a_seed_draws_the_shots_that_it_always_drew() -> None:
    shots = draw_shots(numbered(8), ShotCount("5"), seed=3)
    assert shots.train_indices == [12, 9, 15, 3, 19, 10, 22, 7, 11, 17, 23, 14]
    assert shots.tuning_indices == [6, 16, 8]


@settings(deadline=None)
@given(count=st.integers(2, 30), number=st.integers(0, 9), seed=st.integers(0, 2**32))
def test_a_fold_is_trained_on_all_shots_but_those_that_judge_it(
    count: int, number: int, seed: int
) -> None:
    shots = draw_shots(numbered(30), ShotCount(str(count)), seed)
    fold = shots.fold(number, seed)
    # The shots are distinct images, so that this also says that no image is in both parts.
    assert sorted(fold.train_indices + fold.tuning_indices) == sorted(shots.joined()[2])
    assert fold.tuning_labels.bincount().tolist() == shots.tuning_labels.bincount().tolist()


@pytest.mark.parametrize("count", [5, 10, 50])
def test_in_five_folds_every_shot_judges_exactly_once(count: int) -> None:
    shots = draw_shots(numbered(50), ShotCount(str(count)), seed=0)
    judges = [index for number in range(5) for index in shots.fold(number, seed=4).tuning_indices]
    assert sorted(judges) == sorted(shots.joined()[2])


def test_a_seed_draws_the_folds_that_it_always_drew() -> None:
    shots = draw_shots(numbered(8), ShotCount("5"), seed=3)
    first, second, other = shots.fold(0, seed=4), shots.fold(1, seed=4), shots.fold(0, seed=5)
    assert first.train_indices == [3, 9, 6, 15, 10, 19, 7, 22, 11, 14, 17, 8]
    assert first.tuning_indices == [12, 16, 23]
    assert second.tuning_indices == [3, 10, 11]
    assert other.tuning_indices == [9, 10, 14]


def test_drawing_shots_leaves_the_global_random_state_alone() -> None:
    before = torch.get_rng_state()
    draw_shots(numbered(20), ShotCount("10"), seed=0).fold(1, seed=0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("shots", "expected"), [("10%", 4), ("5%", 2), ("12.5%", 5), ("100%", 40)])
def test_a_percentage_is_a_share_of_each_class(shots: str, expected: int) -> None:
    drawn = draw_shots(numbered(40), ShotCount(shots), seed=0)
    counts = torch.bincount(torch.cat((drawn.train_labels, drawn.tuning_labels)))
    assert counts.tolist() == [expected] * 3


@pytest.mark.parametrize("shots", ["41", "999999999"])
def test_too_many_shots_are_refused_saying_how_many_images_there_are(shots: str) -> None:
    with pytest.raises(InputError, match=r"'class-0', which has 40$"):
        draw_shots(numbered(40), ShotCount(shots), seed=0)


@pytest.mark.parametrize("shots", ["1", "1%", "0%"])
def test_fewer_than_two_shots_are_refused(shots: str) -> None:
    with pytest.raises(InputError, match=r"^shots: .* at least 2 are needed[^\n]*$"):
        draw_shots(numbered(40), ShotCount(shots), seed=0)


@settings(deadline=None)
@given(per_class=st.integers(1, 400), data=st.data())
def test_certification_images_lie_at_a_fixed_stride(per_class: int, data: st.DataObject) -> None:
    available = 3 * per_class
    count = data.draw(st.integers(1, available))
    indices = certification_indices(numbered(per_class), count)
    gaps = [b - a for a, b in pairwise(indices)]
    assert len(indices) == count
    assert indices[0] == 0
    assert indices[-1] < available
    assert all(gap >= 1 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1


def test_the_stride_is_that_of_cohen_when_the_count_divides_the_test_images() -> None:
    assert certification_indices(load_dataset("digits"), 25) == list(range(0, 500, 20))


def test_all_test_images_are_certified_where_more_are_asked_for() -> None:
    assert certification_indices(load_dataset("digits"), 501) == list(range(500))
