"""What steps say about themselves, and how long a run takes in all."""

from types import SimpleNamespace

import pytest

from tuning.monitoring import steps
from tuning.monitoring.steps import Activity, Step, duration, short


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, as steps see it."""
    now = [0.0]
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.mark.parametrize(
    ("total", "advances", "amount", "remaining"),
    [
        (100, [(10, 20, None)], "20/100", "40 s left"),
        # What is known beats what is extrapolated.
        (100, [(10, 20, None), (15, 1, 600)], "21/100", "10 min left"),
        # The time before a step begins does not count: 60 a second.
        (1000, [(100, 5, None)], "5/1000", ""),
        (1000, [(100, 5, None), (106, 360, None)], "365/1000", "11 s left"),
        # Too few to say.
        (8_100_000, [(10, 1000, None), (20, 1000, None)], "2000/8.1M", ""),
        (10, [(10, 10, None)], "10/10", ""),
    ],
)
def test_a_step_says_how_long_it_is_going_to_take(
    total: int,
    advances: list[tuple[float, int, float | None]],
    amount: str,
    remaining: str,
    clock: list[float],
) -> None:
    step = Step("votes", total)
    for clock[0], units, left in advances:
        step.advance(units, left)
    assert (step.amount, step.remaining) == (amount, remaining)


def test_fast_units_are_counted_by_the_second(clock: list[float]) -> None:
    for fast, speed in ((True, "40.0k/s"), (False, "")):
        clock[0] = 0.0
        step = Step("votes", 8_100_000, fast)
        step.advance(100_000)
        clock[0] = 100.0
        step.advance(4_000_000)
        assert step.speed == speed


def test_the_time_left_in_all_counts_steps_that_have_not_begun(clock: list[float]) -> None:
    activity = Activity()
    activity.work = {"search": 100.0, "votes": 300.0}
    search = Step("search", 20)
    activity.begin(search)
    # An earlier start did a half of it.
    search.advance(10)
    assert activity.left is None
    clock[0] = 25.0
    search.advance(5)
    # A quarter of the search took 25 seconds: 1 unit of work a second.
    assert activity.left == pytest.approx(25 + 300)
    clock[0] = 50.0
    assert activity.left == pytest.approx(50 + 600)
    clock[0] = 25.0
    assert activity.timing == "25 s so far, about 5 min left in all"
    # The search knows better, but nothing else does.
    search.advance(0, left=20.0)
    assert activity.left == pytest.approx(20 + 300)
    activity.end(search)
    search.advance(5)
    votes = Step("votes", 1000)
    activity.begin(votes)
    clock[0] = 50.0
    assert activity.left == pytest.approx(300)


def test_a_step_that_ended_early_takes_no_more_time(clock: list[float]) -> None:
    activity = Activity()
    activity.work = {"search": 100.0, "votes": 300.0}
    search, votes = Step("search", 10), Step("votes", 1000)
    for step in (search, votes):
        activity.begin(step)
    clock[0] = 50.0
    # A budget ends it, with half of the trials still to come.
    search.advance(5, left=70.0)
    assert activity.left == pytest.approx(70 + 300)
    activity.end(search)
    assert activity.left == pytest.approx(300)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (9999, "9999"), (10_000, "10.0k"), (4_000_000, "4.0M"), (2_500_000_000, "2.5G")],
)
def test_large_numbers_are_short(number: int, text: str) -> None:
    assert short(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (120, "2 min"), (7200, "2.0 h")]
)
def test_durations_are_said_in_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text
