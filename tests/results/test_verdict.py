"""Who won and whether that is of any use, and what readers are told about it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from results.curves import share_of
from results.run import Setting
from results.sentences import NOTHING, details, headline, percent, statement, verdict_json, winner
from results.verdict import Verdict, judge
from tests.support.invented import certificate_rows, confirmation_rows, summary_of

Rows = list[dict[str, Any]]
WINNER = (9, "search")


def judged(
    best: Rows | None = None,
    winner: tuple[int, str] = WINNER,
    tied: Sequence[int] = (9,),
    baselines: Mapping[str, Rows] | None = None,
    clean: tuple[int, int] | None = None,
) -> Verdict:
    """The verdict where the winner is the trial `winner` and certified as in `best`."""
    names = ("none", "label_consistency", "published")
    groups = {name: (baselines or {}).get(name, certificate_rows(name)) for name in names}
    groups["best"] = best or certificate_rows("best")
    trial, origin = winner
    summary = [summary_of(name, groups[name]) for name in names]
    summary.append(summary_of("best", groups["best"], origin=origin, trial=trial))
    confirmation = [row | {"tied": row["number"] in tied} for row in confirmation_rows()]
    classes = [{"class": 4, "name": "four"}, {"class": 5, "name": "5"}]
    setting = Setting(
        "digits-10shot", summary, [], confirmation, [], classes, groups, {}, {}, clean
    )
    verdict = judge(setting)
    assert verdict is not None
    return verdict


def always(answer: int, on: int = 200, radius: float = 0.9) -> Rows:
    """Certificates of the winner that give `answer` to the first `on` images."""
    rows = certificate_rows("best")
    changed = [row | {"predicted": answer, "radius": radius} for row in rows[:on]]
    return changed + rows[on:]


def test_a_proposal_that_is_better_is_said_to_be() -> None:
    verdict = judged()
    assert headline(verdict) == statement(verdict)
    who, score, better, jointly = details(verdict)
    assert who == "The winner is a proposal of the sampler (trial 9, sigma 0.375)."
    assert score.startswith("It scores ")
    assert "on 200 test images" in score
    assert better.startswith("It is better than no denoiser by ")
    assert "DE-CROP as published by " in better
    confident = "With 99.9% confidence that all of its 200 certificates hold, it certifies "
    assert jointly.startswith(confident)
    share = 100 * verdict.best["joint_accuracy_0_25"]
    assert f", {share:.1f}% at 0.25, " in jointly
    assert verdict.is_improvement


def test_the_statement_is_what_was_proved_with_the_denoiser_and_without_one() -> None:
    def at_a_half(name: str) -> str:
        rows = certificate_rows(name)
        right = sum(row["predicted"] == row["label"] and row["radius"] >= 0.5 for row in rows)
        found = [100 * share for share in vars(share_of(right, 200)).values()]
        return "{:.1f}% [{:.1f}, {:.1f}]".format(*found)

    assert statement(judged()) == (
        f"at radius 0.5 this classifier with its denoiser is provably right on {at_a_half('best')} "
        f"of 200 test images; without one on {at_a_half('none')}"
    )
    assert at_a_half("best") != at_a_half("none")


@pytest.mark.parametrize(
    ("radii", "at"),
    [((0, 0.25, 0.5, 0.75), "0.5"), ((0, 0.25, 0.5), "0.5"), ((1,), "1"), ((0,), "0")],
)
def test_the_statement_is_about_the_middle_one_of_the_radii_above_zero(
    radii: tuple[float, ...], at: str
) -> None:
    verdict = judged()
    said = statement(replace(verdict, best=dict(verdict.best) | {"radii": radii}))
    assert said.startswith(f"at radius {at} this")


def test_how_good_the_classifier_itself_is_stands_below_the_statement() -> None:
    assert details(judged(clean=(97, 100)))[1] == (
        "Without noise or an attack, the classifier itself is right on 97.0% [91.5, 99.0] of 100 "
        "labelled images."
    )


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("start", "a start point of the search space"),
        ("transferred", "a point transferred from a different setting"),
    ],
)
def test_who_won_is_said(origin: str, words: str) -> None:
    verdict = judged(winner=(9, origin))
    assert winner(verdict) == f"the winner is {words} (trial 9, sigma 0.375)"
    assert verdict_json(verdict)["origin"] == origin


@pytest.mark.parametrize(
    ("trial", "variant", "words"),
    [
        (0, "published", "DE-CROP as published"),
        (1, "label_consistency", "denoised smoothing by label consistency"),
    ],
)
def test_a_baseline_that_won_is_not_compared_with_itself(
    trial: int, variant: str, words: str
) -> None:
    verdict = judged(certificate_rows(variant), (trial, variant))
    assert winner(verdict) == (
        f"the winner is a baseline, {words} (trial {trial}, sigma 0.25): the search found nothing "
        "to prefer to it"
    )
    assert verdict.same_as == variant
    others = [comparison.against for comparison in verdict.comparisons]
    assert others == [n for n in ("none", "label_consistency", "published") if n != variant]
    assert not verdict.was_found
    assert words not in " ".join(details(verdict)[1:])


def test_denoising_by_mse_is_a_baseline_although_it_is_no_variant() -> None:
    verdict = judged(winner=(3, "mse"))
    assert "a baseline, denoised smoothing by MSE (trial 3" in winner(verdict)
    assert verdict.same_as is None


def test_a_constant_answer_is_named_and_compared_with_nothing() -> None:
    names = ("none", "label_consistency", "published")
    guessing = {name: always(5) for name in names}
    for name, rows in guessing.items():
        sigma = certificate_rows(name)[0]["sigma"]
        guessing[name] = [row | {"variant": name, "sigma": sigma} for row in rows]
    verdict = judged(always(4), baselines=guessing)
    assert headline(verdict) == NOTHING
    who, one_sided, stated, score = details(verdict)
    assert who == "The winner is a proposal of the sampler (trial 9, sigma 0.375)."
    assert stated.startswith("At radius 0.5 this classifier with its denoiser is provably right on")
    assert score.endswith("guessing scores 0.")
    assert one_sided.startswith("It answers class 4 (four) to 100.0% of the images, though ")
    said = verdict_json(verdict)
    assert said["headline"] == NOTHING
    assert said["statement"] == statement(verdict)
    assert not said["beats_guessing"]
    assert not said["better_than_published"]
    assert said["score_against"] == {}
    assert json.loads(json.dumps(said)) == said


def test_where_a_baseline_beats_guessing_and_the_winner_does_not_that_is_said() -> None:
    verdict = judged(always(4))
    assert headline(verdict) == "the winner is not better than answering always the same"
    last = details(verdict)[-1]
    assert last == (
        "Better than guessing: no denoiser, denoised smoothing on the same shots and DE-CROP as "
        "published."
    )
    assert "better than no" not in " ".join(details(verdict))


def test_a_winner_that_cannot_be_told_from_guessing_is_no_improvement_on_a_worse_baseline() -> None:
    wrong = [
        row | {"predicted": (row["label"] + 1) % 10, "radius": 2.0}
        for row in certificate_rows("published")
    ]
    verdict = judged(always(4), baselines={"published": wrong})
    assert {c.against: c.verdict for c in verdict.comparisons}["published"] == "gain"
    assert not verdict.is_improvement
    assert "published" not in verdict.useful


def test_over_half_of_the_answers_the_same_is_flagged_even_if_it_beats_guessing() -> None:
    verdict = judged(always(5, on=110, radius=0.0))
    assert verdict.beats_guessing
    share = verdict.best["most_frequent_share"]
    assert share > 0.5
    assert headline(verdict) == (
        f"the winner gives the same answer to {100 * share:.1f}% of the images"
    )
    assert details(verdict)[1].startswith("It answers class 5 to ")
    assert verdict_json(verdict)["one_sided"]


def test_a_class_that_has_most_of_the_images_may_have_most_of_the_answers() -> None:
    rows = certificate_rows("best")
    for row in rows[:140]:
        row |= {"label": 4, "predicted": 4}
    baselines = {
        name: [
            row | {"label": mine["label"]}
            for row, mine in zip(certificate_rows(name), rows, strict=True)
        ]
        for name in ("none", "label_consistency", "published")
    }
    verdict = judged(rows, baselines=baselines)
    assert verdict.best["most_frequent_share"] > 0.5
    assert not verdict.one_sided


def test_what_cannot_be_told_apart_is_said_with_its_difference() -> None:
    twin = [row | {"variant": "published", "sigma": 0.25} for row in certificate_rows("best")]
    verdict = judged(baselines={"published": twin})
    assert details(verdict)[3] == (
        "It cannot be told apart from DE-CROP as published (0.0 points [-2.1, 2.1])."
    )
    assert not verdict.is_improvement


@pytest.mark.parametrize(
    ("share", "text"), [(-0.0004, "0.0"), (-0.0006, "-0.1"), (0.0, "0.0"), (1, "100.0")]
)
def test_percentages_have_a_digit_and_zero_has_no_sign(share: float, text: str) -> None:
    assert percent(share) == text


def test_a_winner_that_lost_on_the_test_images_is_said_to_be_worse() -> None:
    verdict = judged([row | {"sigma": 0.12} for row in certificate_rows("none")])
    worse = next(sentence for sentence in details(verdict) if "worse" in sentence)
    assert worse.startswith("It is worse than denoised smoothing on the same shots by ")
    assert "-" not in worse.replace("DE-CROP", "")


def test_configurations_as_good_as_the_winner_are_listed_if_they_differ() -> None:
    assert details(judged(tied=(9, 0)))[-1] == (
        "On the tuning images these cannot be told apart: trial 9 (search, sigma 0.375) and "
        "trial 0 (published, sigma 0.25); the one with the highest score is the winner."
    )
    assert verdict_json(judged(tied=(9, 0)))["cannot_be_told_apart"] == [9, 0]
    # Of the same origin and sigma.
    assert not judged(tied=(9, 12)).tied


def test_a_setting_without_a_winner_has_no_verdict() -> None:
    rows = certificate_rows("none")
    summary = [summary_of("none", rows)]
    setting = Setting("digits", summary, [], [], [], [], {"none": rows}, metadata={}, insight={})
    assert judge(setting) is None


def test_a_denoiser_that_was_certified_by_itself_is_the_denoiser_that_was_given() -> None:
    rows = certificate_rows("best")
    row = summary_of("best", rows, origin="file") | {"trial": None}
    setting = Setting("digits", [row], [], [], [], [], {"best": rows}, metadata={}, insight={})
    verdict = judge(setting)
    assert verdict is not None
    assert headline(verdict).startswith("at radius 0.5 this classifier with its denoiser is ")
    assert "without" not in headline(verdict)
    who, score, jointly = details(verdict)
    assert who == "It is the denoiser that was given, sigma 0.375."
    assert (score[:9], jointly[:10]) == ("It scores", "With 99.9%")


def test_what_no_trial_has_trained_is_compared_all_the_same() -> None:
    groups = {"none": certificate_rows("none"), "best": certificate_rows("best")}
    summary = [
        summary_of("none", groups["none"], origin="none", trial=None),
        summary_of("best", groups["best"], origin="file") | {"trial": None},
    ]
    setting = Setting("digits", summary, [], [], [], [], groups, metadata={}, insight={})
    verdict = judge(setting)
    assert verdict is not None
    assert verdict.same_as is None
    assert [comparison.against for comparison in verdict.comparisons] == ["none"]
