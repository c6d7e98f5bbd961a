import pytest

from tuning.study.pruning import Pruner

RUNGS = (10, 30)


def seen(scheduler: str, values: list[float]) -> Pruner:
    pruner = Pruner(scheduler, RUNGS)  # type: ignore[arg-type]
    for rung in RUNGS:
        for value in values:
            pruner.record(0, rung, value)
    return pruner


def test_the_best_third_of_earlier_cohorts_goes_on() -> None:
    pruner = seen("asha", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert pruner.stops(9, 1, 10, 0.43)
    assert not pruner.stops(9, 1, 10, 0.44)


def test_trials_of_the_same_cohort_are_not_compared() -> None:
    pruner = seen("asha", [0.1, 0.2, 0.3])
    assert not pruner.stops(9, 0, 10, 0.0)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_earlier_trials_prune_nothing(count: int) -> None:
    assert not seen("asha", [0.5] * count).stops(9, 1, 10, 0.0)


def test_no_scheduler_prunes_nothing() -> None:
    assert not seen("none", [0.1, 0.2, 0.3]).stops(9, 1, 10, 0.0)


def test_hyperband_trials_take_turns_in_where_they_are_first_compared() -> None:
    pruner = seen("hyperband", [0.1, 0.2, 0.3])
    stopped = {root: [r for r in RUNGS if pruner.stops(root, 1, r, 0.0)] for root in range(6)}
    assert stopped == {0: [10, 30], 1: [30], 2: [], 3: [10, 30], 4: [30], 5: []}
