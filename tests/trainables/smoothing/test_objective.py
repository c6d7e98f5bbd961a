import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, norm

from trainables.errors import InputError
from trainables.smoothing.objective import Objective


def naive_radius(votes: int, cast: int, n: int, sigma: float, alpha: float) -> float:
    expected = math.floor((votes + 0.5) / (cast + 1) * n)
    if expected == 0:
        return 0.0
    bound = beta.ppf(alpha, expected, n - expected + 1)
    return sigma * float(norm.ppf(bound)) if bound > 0.5 else 0.0


@st.composite
def votes_and_cast(draw: st.DrawFn) -> tuple[list[int], int]:
    cast = draw(st.integers(1, 500))
    return draw(st.lists(st.integers(0, cast), min_size=1, max_size=12)), cast


@settings(deadline=None)
@given(
    votes_cast=votes_and_cast(),
    n=st.sampled_from([1, 100, 1000, 10_000]),
    sigma=st.floats(0.05, 2),
    alpha=st.floats(1e-5, 0.2),
    radius=st.none() | st.floats(0, 1),
)
def test_the_score_agrees_with_a_naive_loop(
    votes_cast: tuple[list[int], int], n: int, sigma: float, alpha: float, radius: float | None
) -> None:
    votes, cast = votes_cast
    total = squares = 0.0
    for count in votes:
        value = naive_radius(count, cast, n, sigma, alpha)
        if radius is not None:
            value = 1.0 if value > 0 and value >= radius else 0.0
        total += value
        squares += value * value
    mean = total / len(votes)
    spread = max(0.0, squares / len(votes) - mean * mean)
    error = math.sqrt(spread / max(1, len(votes) - 1))
    score = Objective(radius).score(votes, cast, n=n, sigma=sigma, alpha=alpha)
    assert score.mean == pytest.approx(mean, abs=1e-9)
    assert score.standard_error == pytest.approx(error, abs=1e-6)


def test_an_image_that_loses_the_vote_counts_as_zero() -> None:
    score = Objective().score([10, 100], 100, n=10_000, sigma=0.5, alpha=0.001)
    alone = Objective().score([100], 100, n=10_000, sigma=0.5, alpha=0.001)
    assert score.mean == pytest.approx(alone.mean / 2)


def test_an_abstention_is_not_certified_even_at_radius_zero() -> None:
    score = Objective(0.0).score([50, 100], 100, n=10_000, sigma=0.5, alpha=0.001)
    assert score.mean == 0.5


def test_the_score_hardly_depends_on_how_many_votes_were_cast() -> None:
    few = Objective().score([90, 95], 100, n=10_000, sigma=0.5, alpha=0.001)
    many = Objective().score([9000, 9500], 10_000, n=10_000, sigma=0.5, alpha=0.001)
    assert few.mean == pytest.approx(many.mean, rel=0.05)


def test_a_single_image_has_no_standard_error() -> None:
    assert Objective().score([90], 100, n=1000, sigma=0.5, alpha=0.001).standard_error == 0


@pytest.mark.parametrize(
    ("text", "radius"),
    [("acr", None), ("certified-accuracy@0.5", 0.5), ("certified-accuracy@1", 1.0),
     ("certified-accuracy@0", 0.0)],
)  # fmt: skip
def test_objectives_are_read_from_text(text: str, radius: float | None) -> None:
    assert Objective.parse(text) == Objective(radius)


@pytest.mark.parametrize(
    "text",
    ["", "ACR", "acr ", "accuracy", "certified-accuracy", "certified-accuracy@",
     "certified-accuracy@-1", "certified-accuracy@.5", "certified-accuracy@x",
     "certified-accuracy@nan", "certified-accuracy@1e3", "certified-accuracy@0.5\n"],
)  # fmt: skip
def test_an_unknown_objective_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(InputError, match="objective") as caught:
        Objective.parse(text)
    assert "\n" not in str(caught.value)
    assert repr(text) in str(caught.value)
