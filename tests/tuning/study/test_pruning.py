import pytest

from tuning.study.pruning import Pruner

RUNGS = (10, 30)


def seen(scheduler: str, values: list[float]) -> Pruner:
    pruner = Pruner(scheduler, RUNGS)  # type: ignore[arg-type]
    for rung in RUNGS:
        for root, value in enumerate(values):
            pruner.record(root, rung, 1.0, value)
    return pruner


def test_the_best_third_of_earlier_points_goes_on() -> None:
    pruner = seen("asha", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert pruner.stops(9, 10, 2.0, 0.43)
    assert not pruner.stops(9, 10, 2.0, 0.44)


def test_points_that_come_to_a_rung_at_the_same_time_or_later_are_not_compared() -> None:
    pruner = seen("asha", [0.1, 0.2, 0.3])
    assert pruner.stops(9, 10, 1.5, 0.0)
    assert not pruner.stops(9, 10, 1.0, 0.0)


def test_points_are_compared_with_lower_numbers_only() -> None:
    assert not seen("asha", [0.1, 0.2, 0.3]).stops(2, 10, 2.0, 0.0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_earlier_trials_prune_nothing(count: int) -> None:
    assert not seen("asha", [0.5] * count).stops(9, 10, 2.0, 0.0)


def test_no_scheduler_compares_anything() -> None:
    assert Pruner("none", RUNGS).compares(7) == ()


def test_the_first_points_are_spared() -> None:
    pruner = Pruner("asha", RUNGS, spared=3)
    assert [pruner.compares(root) for root in (2, 3)] == [(), RUNGS]


def test_hyperband_trials_take_turns_in_where_they_are_first_compared() -> None:
    pruner = Pruner("hyperband", RUNGS)
    assert [pruner.compares(root) for root in range(6)] == 2 * [RUNGS, RUNGS[1:], ()]
