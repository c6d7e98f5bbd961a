"""Confirmation: the best few trials and every baseline scored again, on fresh noise.

The best of many noisy scores flatters its trial; a second look with fresh noise, and more of it,
shows by how much (the optimism gap). Everything here happens on tuning images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from trainables.decrop.config import DecropConfig
from trainables.models.checkpoint import weights_hash
from trainables.models.denoisers import Denoiser
from trainables.smoothing.objective import Objective, Score
from tuning.cluster import Resources
from tuning.config import RunConfig
from tuning.errors import AllTrialsFailed
from tuning.ledger import TrialRecord
from tuning.setting import Setting
from tuning.votes import VoteJob, VoteStore, collect_votes


@dataclass(frozen=True)
class Candidate:
    """A model that may be certified: a finished trial, or the bare classifier at some sigma."""

    trial: TrialRecord | None
    sigma: float
    model: nn.Module
    denoiser: Denoiser | None = None


@dataclass(frozen=True)
class Confirmed:
    """A candidate and its score on fresh noise."""

    candidate: Candidate
    score: Score


@dataclass(frozen=True)
class Winners:
    """What is certified: for each variant the candidate that confirmation chose."""

    variants: dict[str, Confirmed]
    trials: tuple[Confirmed, ...]
    bare: tuple[Confirmed, ...]
    votes: int


def confirm(
    setting: Setting,
    records: Sequence[TrialRecord],
    load: Callable[[TrialRecord], Denoiser],
    classifier: nn.Module,
    config: RunConfig,
    *,
    seed: int,
    store: VoteStore,
    resources: Resources,
    advance: Callable[[int], None],
) -> Winners:
    """Score the best trials, the baselines and the bare classifier, and choose the variants.

    `load` gives the denoiser of a complete trial.

    Raises:
        AllTrialsFailed: when no trial of some variant is complete.
    """
    shortlist = _shortlist(records, config.confirm_top)
    candidates = [_with_denoiser(record, load(record), classifier) for record in shortlist]
    candidates += [Candidate(None, sigma, classifier) for sigma in setting.space.sweep]
    jobs = [_job(c, setting, config.confirm_votes, seed) for c in candidates]
    counts = collect_votes(jobs, store, resources, advance)
    objective = Objective.parse(config.objective)
    labels = setting.shots.tuning_labels.tolist()
    confirmed = []
    for candidate, job in zip(candidates, jobs, strict=True):
        right = [counts[k].votes[y] for k, y in zip(job.vote_keys(), labels, strict=True)]
        score = objective.score(
            right, job.votes, n=config.n, sigma=candidate.sigma, alpha=config.alpha
        )
        confirmed.append(Confirmed(candidate, score))
    return _choose(confirmed, config.confirm_votes)


def confirmation_rows(winners: Winners, images: int) -> list[dict[str, Any]]:
    """One row per confirmed trial, as in results.schema.CONFIRMATION."""
    rows = []
    for confirmed in winners.trials:
        trial = confirmed.candidate.trial
        assert trial is not None
        assert trial.objective is not None
        variants = [name for name, chosen in winners.variants.items() if chosen is confirmed]
        rows.append(
            {
                "number": trial.number,
                "root": trial.root,
                "origin": trial.origin,
                "variant": ", ".join(variants),
                "sigma": confirmed.candidate.sigma,
                "search_objective": trial.objective,
                "confirmed_objective": confirmed.score.mean,
                "standard_error": confirmed.score.standard_error,
                "optimism_gap": trial.objective - confirmed.score.mean,
                "votes": winners.votes,
                "images": images,
                "selected": bool(variants),
            }
        )
    return rows


def baseline_rows(winners: Winners, images: int) -> list[dict[str, Any]]:
    """One row per sigma of the bare classifier, as in results.schema.BASELINES."""
    return [
        {
            "sigma": confirmed.candidate.sigma,
            "objective": confirmed.score.mean,
            "votes": winners.votes,
            "images": images,
            "selected": confirmed is winners.variants["none"],
        }
        for confirmed in winners.bare
    ]


def _job(candidate: Candidate, setting: Setting, votes: int, seed: int) -> VoteJob:
    return VoteJob(
        model=candidate.model,
        model_hash=weights_hash(candidate.model),
        phase="confirm",
        images=setting.shots.tuning_images,
        indices=range(len(setting.shots.tuning_labels)),
        sigma=candidate.sigma,
        votes=votes,
        seed=seed,
    )


def _choose(confirmed: Sequence[Confirmed], votes: int) -> Winners:
    trained = tuple(c for c in confirmed if c.candidate.trial is not None)
    bare = tuple(c for c in confirmed if c.candidate.trial is None)
    variants = {
        "none": _best(bare),
        "label_consistency": _best(_of_origin(trained, "label_consistency")),
        "published": _best(_of_origin(trained, "published")),
        "best": _best(trained),
    }
    return Winners(variants, trained, bare, votes)


def _shortlist(records: Sequence[TrialRecord], top: int) -> list[TrialRecord]:
    """The baselines, and the `top` other complete trials by search objective."""
    complete = [r for r in records if r.state == "complete"]
    baselines = [r for r in complete if r.origin != "search"]
    for origin in ("published", "label_consistency"):
        if not any(r.origin == origin for r in baselines):
            reasons = {r.error for r in records if r.origin == origin and r.error}
            raise AllTrialsFailed(f"every {origin} trial failed: {'; '.join(sorted(reasons))}")
    searched = [r for r in complete if r.origin == "search"]
    searched.sort(key=lambda r: (-(r.objective or 0.0), r.root))
    return baselines + searched[:top]


def _with_denoiser(record: TrialRecord, denoiser: Denoiser, classifier: nn.Module) -> Candidate:
    sigma = DecropConfig.model_validate(record.hyperparameters).sigma
    return Candidate(record, sigma, nn.Sequential(denoiser, classifier).eval(), denoiser)


def _of_origin(confirmed: Sequence[Confirmed], origin: str) -> list[Confirmed]:
    return [
        c for c in confirmed if c.candidate.trial is not None and c.candidate.trial.origin == origin
    ]


def _best(confirmed: Sequence[Confirmed]) -> Confirmed:
    """The highest score; of equals the first."""
    return max(confirmed, key=lambda c: c.score.mean)
