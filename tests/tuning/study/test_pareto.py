from hypothesis import given
from hypothesis import strategies as st

from tuning.study.pareto import by_rank, front

# Few values, so that there are ties.
VALUES = st.floats(0, 1) | st.sampled_from([0.0, 0.5, 1.0])
SCORES = st.lists(st.tuples(VALUES, VALUES), max_size=30)


def dominates(a: tuple[float, float], b: tuple[float, float]) -> bool:
    return a != b and a[0] >= b[0] and a[1] >= b[1]


@given(SCORES)
def test_the_front_is_what_nothing_dominates(scores: list[tuple[float, float]]) -> None:
    members = set(front(scores))
    for index, score in enumerate(scores):
        assert (index in members) != any(dominates(other, score) for other in scores)


@given(SCORES)
def test_by_rank_nothing_comes_before_what_dominates_it(scores: list[tuple[float, float]]) -> None:
    order = by_rank(scores)
    assert sorted(order) == list(range(len(scores)))
    for place, index in enumerate(order):
        assert not any(dominates(scores[later], scores[index]) for later in order[place:])


def test_of_a_front_the_ends_come_first_and_then_what_stands_alone() -> None:
    #           crowded     crowded     crowded     alone       ends
    scores = [(0.1, 0.90), (0.12, 0.88), (0.14, 0.86), (0.6, 0.5), (0.0, 1.0), (1.0, 0.0)]
    assert set(by_rank(scores)[:2]) == {4, 5}
    assert by_rank(scores)[2] == 3
