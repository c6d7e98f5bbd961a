"""A verdict in plain words, for the terminal, the report and --json."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from results.curves import Estimate
from results.schema import joint_column
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


def headline(verdict: Verdict) -> str:
    """The one thing to know, without a full stop."""
    best, origin = verdict.best, _FROM[verdict.best["origin"]]
    if not verdict.beats_guessing:
        if verdict.useful:
            return "the winner is not better than answering always the same"
        return NOTHING
    if verdict.one_sided:
        share = percent(best["most_frequent_share"])
        return f"the winner gives the same answer to {share}% of the images"
    if best["trial"] is None:
        return f"{origin}, sigma {best['sigma']:.3g}"
    trial = f"trial {best['trial']}, sigma {best['sigma']:.3g}"
    if verdict.was_found:
        return f"the winner is {origin} ({trial})"
    return f"the winner is a baseline, {origin} ({trial}): the search found nothing to prefer to it"


def details(verdict: Verdict) -> list[str]:
    """What supports the headline, and what to beware of: a sentence for each."""
    found = [_score(verdict)]
    if verdict.one_sided:
        found.append(_one_sided(verdict))
    if verdict.beats_guessing:
        found += [*_gains(verdict), _jointly(verdict)]
    elif verdict.useful:
        found.append(f"Better than guessing: {_joined([_NAMES[n] for n in verdict.useful])}.")
    return found + _tied(verdict)


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict for programs; what does not beat guessing is compared with nothing."""
    compared = verdict.comparisons if verdict.beats_guessing else []
    return {
        "setting": verdict.setting,
        "statement": headline(verdict),
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
    return f"{100 * share:.1f}"


def _score(verdict: Verdict) -> str:
    best = verdict.best
    low, high = percent(best["score_low"]), percent(best["score_high"])
    score = f"scores {percent(best['score'])}% [{low}, {high}] on {best['images']} test images"
    if verdict.beats_guessing and not verdict.one_sided:
        return f"It {score}; guessing scores 0."
    origin = _FROM[best["origin"]]
    who = origin if best["trial"] is None else f"trial {best['trial']}, {origin}"
    return f"The winner, {who} at sigma {best['sigma']:.3g}, {score}; guessing scores 0."


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
