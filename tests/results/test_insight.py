import pytest

from results.insight import Insight, Rung, rungs


def row(epochs: int | None, state: str = "pruned", origin: str = "search") -> dict[str, object]:
    return {"epochs": epochs, "state": state, "origin": origin}


def test_a_rung_counts_who_reached_it_and_who_went_on() -> None:
    trials = [row(3)] * 4 + [row(9)] * 2 + [row(27, "complete")] * 3
    assert rungs(trials) == [Rung(3, 9, 5), Rung(9, 5, 3), Rung(27, 3, 0)]
    assert rungs(trials)[1].share == 0.6


def test_only_trials_of_the_search_that_did_not_fail_count() -> None:
    searched = [row(3, origin=origin) for origin in ("search", "start", "transferred")]
    others = [row(9, origin=origin) for origin in ("published", "label_consistency", "mse")]
    failed = [row(5, "failed"), row(None, "failed"), row(0)]
    assert rungs(searched + others + failed) == [Rung(3, 3, 0)]


def test_no_trials_have_no_rungs() -> None:
    assert rungs([]) == []


def test_insight_comes_back_from_its_content() -> None:
    learnt = Insight("ACR", {"b": 0.75, "a": 0.25}, {3: [(5, 0.25)], 1: [(5, 0.5), (9, 0.75)]})
    assert Insight.of(learnt.content()) == learnt


def test_what_is_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match="its version is 3, not 2"):
        Insight.of(Insight("ACR").content() | {"version": 3})
