import pytest

from results.comparison import compare
from results.score import Answers
from tests.support.invented import RADII, certificate_rows, scores


def test_a_gain_is_that_of_score_accuracies_and_acr() -> None:
    best, none = certificate_rows("best"), certificate_rows("none")
    comparison = compare(best, "none", none, RADII)
    means = [Answers.of(rows).scores(RADII).mean() for rows in (best, none)]
    assert comparison.score.value == pytest.approx(means[0] - means[1])
    assert comparison.acr.value == pytest.approx(scores("best").mean() - scores("none").mean())
    shares = [
        sum(r["predicted"] == r["label"] and r["radius"] >= 0.25 for r in rows) / len(rows)
        for rows in (best, none)
    ]
    assert comparison.accuracy[0.25].value == pytest.approx(shares[0] - shares[1])
    assert list(comparison.accuracy) == list(RADII)


def test_gains_are_paired_by_image_not_by_row_order() -> None:
    best, none = certificate_rows("best"), certificate_rows("none")
    assert compare(best, "none", none[::-1], [0.0]) == compare(best, "none", none, [0.0])


def test_the_verdict_is_about_the_score() -> None:
    best, none = certificate_rows("best"), certificate_rows("none")
    assert compare(best, "none", none, RADII).verdict == "gain"
    assert compare(none, "best", best, RADII).verdict == "loss"
    assert compare(best, "published", best, RADII).verdict == "unclear"


def test_a_constant_answer_with_a_large_radius_wins_in_acr_only() -> None:
    honest = certificate_rows("none")
    constant = [row | {"predicted": 4, "radius": 3.0} for row in honest]
    comparison = compare(constant, "none", honest, RADII)
    assert comparison.acr.low > 0
    assert comparison.verdict == "loss"


def test_variants_on_different_images_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different images"):
        compare(certificate_rows("best"), "none", certificate_rows("none", 5), [0.0])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"alpha": 0.01}, "alpha 0.01, not with 0.001"),
        ({"n0": 50}, "n0 50, not with 100"),
        ({"n": 5000}, "n 5000, not with 10000"),
        ({"procedure": "tolerance"}, "procedure tolerance, not with fixed"),
    ],
)
def test_variants_that_were_certified_in_different_ways_are_not_compared(
    changed: dict[str, object], said: str
) -> None:
    others = [row | changed for row in certificate_rows("none")]
    with pytest.raises(ValueError, match=f"variant none was certified with {said}"):
        compare(certificate_rows("best"), "none", others, [0.0])


def test_each_image_may_have_its_own_number_of_votes() -> None:
    best, none = (
        [row | {"procedure": "tolerance"} for row in certificate_rows(name)]
        for name in ("best", "none")
    )
    others = [row | {"n": 10_000 - 10 * row["image_index"]} for row in none]
    assert compare(best, "none", others, RADII).verdict == "gain"
