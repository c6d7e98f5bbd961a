"""Which configurations are confirmed, and which of them is the best."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from results.terminal import round_down
from trainables.decrop.config import BASELINES
from trainables.smoothing.objective import Score
from tuning.confirmation.draws import Draws
from tuning.errors import AllTrialsFailed, ConfigError
from tuning.study.attempts import TrialRecord, best_first
from tuning.study.pareto import front
from tuning.study.points import PUBLISHED_SIGMA


@dataclass(frozen=True)
class Confirmed:
    """A configuration and its score on fresh splits; `trial` is None for the bare classifier.

    `scores` has one entry for each image of each fold, in the same order for all candidates, and
    `draws` says which these are; the standard error of the `score` is over folds and images.
    `accuracy` is the clean accuracy on the same images. `unseen` is the score with as many votes as
    in the search, on those of them that the search did not tune on, if there are any.
    """

    trial: TrialRecord | None
    sigma: float
    score: Score
    scores: tuple[float, ...]
    draws: Draws
    accuracy: float
    unseen: float | None = None


@dataclass(frozen=True)
class Confirmation:
    """Everything that was confirmed, and for each variant the chosen configuration.

    `further` holds what is certified beside the variants, by name: the published configuration at
    its best sigma, and the members of the Pareto front if the search was for one. `bare` holds the
    classifier itself at each sigma; `tied` those that cannot be told apart from the best. All were
    scored with `votes` on every image of the `folds`.
    """

    variants: dict[str, Confirmed]
    tied: tuple[Confirmed, ...]
    further: dict[str, Confirmed]
    trials: tuple[Confirmed, ...]
    bare: tuple[Confirmed, ...]
    votes: int
    folds: int


def shortlisted(
    records: Sequence[TrialRecord], top: int, pareto: bool = False
) -> list[TrialRecord]:
    """The best trial of each baseline, and the `top` others, by search objective.

    The published configuration is there as it is, and at the best of the sweep's sigmas.

    With `pareto` the others are from the front of objective and accuracy, the least crowded first.

    Raises:
        AllTrialsFailed: when a variant has no complete trial.
    """
    complete = best_first(records)
    shortlist = []
    for origin in ("published", *BASELINES):
        mine = [r for r in complete if r.origin == origin]
        if not mine and origin != "mse":
            reasons = {r.error for r in records if r.origin == origin and r.error}
            raise AllTrialsFailed(f"every {origin} trial failed: {'; '.join(sorted(reasons))}")
        shortlist += mine[:1]
        if origin == "published":
            swept = next(r for r in complete if r.origin in (origin, PUBLISHED_SIGMA))
            shortlist += [swept] if swept is not mine[0] else []
    searched = best_first((r for r in complete if not r.is_baseline), pareto)
    return shortlist + searched[:top]


def tied(trials: Sequence[Confirmed], min_accuracy: float | None = None) -> list[Confirmed]:
    """The candidates that score as well as the best one, which cannot be told apart.

    "As well" means: lower by no more than one standard error of the difference, which is taken
    image by image and varies between folds as well as between images. Candidates whose clean
    accuracy is below `min_accuracy` do not count.
    Source: Breiman et al. 1984, Section 3.4.3 (the one-standard-error rule).

    Raises:
        ConfigError: when no candidate is that accurate.
    """
    accurate = [c for c in trials if c.accuracy >= (min_accuracy or 0)]
    if not accurate:
        highest_accuracy = max(c.accuracy for c in trials)
        raise ConfigError(
            f"--min-accuracy: no confirmed configuration reached {min_accuracy}; the most accurate "
            f"one has {round_down(highest_accuracy)}; --resume with that or less to continue"
        )
    best = highest(accurate)
    return [c for c in accurate if _as_good(c, best)]


def pareto_front(trials: Sequence[Confirmed]) -> dict[str, Confirmed]:
    """The candidates that no other beats in accuracy and score, the most accurate first, named."""
    members = [trials[i] for i in front([(c.accuracy, c.score.mean) for c in trials])]
    members.sort(key=lambda c: -c.accuracy)
    return {f"front-{number}": member for number, member in enumerate(members, start=1)}


def highest(confirmed: Sequence[Confirmed]) -> Confirmed:
    """The configuration with the highest score, the first one if equal."""
    return max(confirmed, key=lambda c: c.score.mean)


def _as_good(candidate: Confirmed, best: Confirmed) -> bool:
    lost = np.subtract(best.scores, candidate.scores)
    return bool(lost.mean() <= best.draws.standard_error(lost))
