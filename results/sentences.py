"""A verdict in plain words, for the terminal, the report and --json."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from results.curves import Estimate, share_of
from results.schema import Row, accuracy_column, joint_column
from results.verdict import Verdict

NOTHING = "no configuration found is better than answering always the same"

_NAMES = {
    "none": "no denoiser",
    "label_consistency": "denoised smoothing on the same shots",
    "published": "DE-CROP as published",
    "published_best_sigma": "DE-CROP as published at its best sigma",
}
_FROM = {
    "published": "DE-CROP as published",
    "published_sigma": "DE-CROP as published at a different sigma",
    "label_consistency": "denoised smoothing by label consistency",
    "mse": "denoised smoothing by MSE",
    "start": "a start point of the search space",
    "transferred": "a point transferred from a different setting",
    "search": "a proposal of the sampler",
    "file": "the denoiser that was given",
    "none": "no denoiser",
}


def statement(verdict: Verdict) -> str:
    """What was proved of the winner, and what can be proved without it; without a full stop.

    It is about the middle one of the radii that the user cares about.
    """
    best = verdict.best
    at = middle(best["radii"])
    said = (
        f"at radius {at:g} this classifier with its denoiser is provably right on "
        f"{_certified(best, at)} of {best['images']} test images"
    )
    bare = verdict.bare
    return said if bare is None else f"{said}; without one on {_certified(bare, at)}"


def headline(verdict: Verdict) -> str:
    """The one thing to know, without a full stop: the statement, or why it is of no use."""
    if not verdict.beats_guessing:
        if verdict.useful:
            return "the winner is not better than answering always the same"
        return NOTHING
    if verdict.one_sided:
        share = percent(verdict.best["most_frequent_share"])
        return f"the winner gives the same answer to {share}% of the images"
    return statement(verdict)


def winner(verdict: Verdict) -> str:
    """Who won, without a full stop."""
    best, origin = verdict.best, _FROM[verdict.best["origin"]]
    if best["trial"] is None:
        return f"it is {origin}, sigma {best['sigma']:.3g}"
    trial = f"trial {best['trial']}, sigma {best['sigma']:.3g}"
    if verdict.was_found or not verdict.beats_guessing:
        return f"the winner is {origin} ({trial})"
    return f"the winner is a baseline, {origin} ({trial}): the search found nothing to prefer to it"


def details(verdict: Verdict) -> list[str]:
    """What supports the headline, and what to beware of: a sentence for each."""
    found = [sentence(winner(verdict))]
    if verdict.one_sided:
        found.append(_one_sided(verdict))
    if headline(verdict) != statement(verdict):
        found.append(sentence(statement(verdict)))
    found += [*_clean_accuracy(verdict)]
    if verdict.beats_guessing:
        found += [_score(verdict), *_gains(verdict), _jointly(verdict)]
    else:
        found.append(_score(verdict))
        if verdict.useful:
            found.append(f"Better than guessing: {_joined([_NAMES[n] for n in verdict.useful])}.")
    return found + _tied(verdict)


def sentence(words: str) -> str:
    """`words` with a capital letter and a full stop."""
    return f"{words[0].upper()}{words[1:]}."


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for programs; what does not beat guessing is compared with nothing."""
    compared = verdict.comparisons if verdict.beats_guessing else []
    return {
        "setting": verdict.setting,
        "headline": headline(verdict),
        "statement": statement(verdict),
        "winner": winner(verdict),
        "origin": verdict.best["origin"],
        "trial": verdict.best["trial"],
        "same_as": verdict.same_as,
        "beats_guessing": verdict.beats_guessing,
        "one_sided": verdict.one_sided,
        "better_than_published": verdict.is_improvement,
        "score_against": {c.against: asdict(c.score) | {"verdict": c.verdict} for c in compared},
        "cannot_be_told_apart": [row["number"] for row in verdict.tied],
    }


def percent(share: float) -> str:
    """A share in percent, with one digit after the point."""
    # z: without the sign of what is rounded to zero.
    return f"{100 * share:z.1f}"


def middle(radii: Sequence[float]) -> float:
    """The middle one of the radii above 0, the larger of two; 0 if there is no other."""
    positive = sorted(at for at in radii if at > 0)
    return positive[len(positive) // 2] if positive else 0.0


def _certified(row: Row, at: float) -> str:
    """The share of images that are certified right at a radius, with its interval."""
    return _share(share_of(round(row[accuracy_column(at)] * row["images"]), row["images"]))


def _share(found: Estimate) -> str:
    return f"{percent(found.value)}% [{percent(found.low)}, {percent(found.high)}]"


def _clean_accuracy(verdict: Verdict) -> Iterator[str]:
    """How good the classifier is if nobody attacks, if that is known."""
    if verdict.clean_accuracy is not None:
        right, images = verdict.clean_accuracy
        yield (
            "Without noise or an attack, the classifier itself is right on "
            f"{_share(share_of(right, images))} of {images} labelled images."
        )


def _score(verdict: Verdict) -> str:
    best = verdict.best
    score = _share(Estimate(best["score"], best["score_low"], best["score_high"]))
    return f"It scores {score} on {best['images']} test images; guessing scores 0."


def _jointly(verdict: Verdict) -> str:
    best = verdict.best
    shares = [f"{percent(best[joint_column(at)])}% at {at:g}" for at in best["radii"]]
    return (
        f"With {100 * (1 - best['alpha']):.8g}% confidence that all of its {best['images']} "
        f"certificates hold, it certifies {_joined(shares)}."
    )


def _one_sided(verdict: Verdict) -> str:
    share, true = (percent(verdict.best[f"most_frequent_{of}"]) for of in ("share", "true"))
    answers = f"It answers {verdict.answer} to {share}% of the images"
    return f"{answers}, though {true}% are of that class."


def _gains(verdict: Verdict) -> list[str]:
    """Better, worse and not to be told apart: a sentence for each that there is."""
    by_kind = {
        kind: [c for c in verdict.comparisons if c.verdict == kind]
        for kind in ("gain", "loss", "unclear")
    }
    better = [f"{_NAMES[c.against]} by {_interval(c.score)}" for c in by_kind["gain"]]
    worse = [f"{_NAMES[c.against]} by {_interval(_negated(c.score))}" for c in by_kind["loss"]]
    unclear = [f"{_NAMES[c.against]} ({_interval(c.score)})" for c in by_kind["unclear"]]
    return [
        f"It {words} {_joined(named)}."
        for words, named in (
            ("is better than", better),
            ("is worse than", worse),
            ("cannot be told apart from", unclear),
        )
        if named
    ]


def _tied(verdict: Verdict) -> list[str]:
    if not verdict.tied:
        return []
    named = [
        f"trial {row['number']} ({row['origin'].replace('_', ' ')}, sigma {row['sigma']:.3g})"
        for row in verdict.tied
    ]
    listed = f"On the tuning images these cannot be told apart: {_joined(named)}"
    return [f"{listed}; the one with the highest score is the winner."]


def _negated(estimate: Estimate) -> Estimate:
    return Estimate(-estimate.value, -estimate.high, -estimate.low)


def _interval(estimate: Estimate) -> str:
    return f"{percent(estimate.value)} points [{percent(estimate.low)}, {percent(estimate.high)}]"


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
