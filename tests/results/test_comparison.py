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
