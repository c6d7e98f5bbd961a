"""Confirmation: the best few configurations and the baselines are trained again, from scratch.

The best of many noisy scores flatters its trial. Here each candidate is trained again, with fresh
seeds on fresh splits of the shots, and scored on fresh noise; how much lower it scores is the
optimism gap. All of this uses only the shots, not the test images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from torch import nn

from results.schema import PUBLISHED_BEST_SIGMA
from trainables.data.splits import Shots
from trainables.models.denoisers import Denoiser
from trainables.smoothing.noise import derive_seed
from trainables.smoothing.objective import Score
from tuning.cluster.context import Context
from tuning.config import RunConfig
from tuning.confirmation.scoring import Contender, FoldScores, Scorer
from tuning.confirmation.selection import (
    Confirmation,
    Confirmed,
    highest,
    pareto_front,
    shortlisted,
    tied,
)
from tuning.confirmation.tables import write_confirmation
from tuning.confirmation.training import Trainer, Training
from tuning.errors import AllTrialsFailed
from tuning.search.budget import confirmation_votes
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord
from tuning.study.points import PUBLISHED_SIGMA
from tuning.votes.counter import VoteCounter, smoothable


@dataclass(frozen=True)
class Trained:
    """A trial whose configuration was trained again, once on each fold."""

    trial: TrialRecord
    denoisers: Sequence[Denoiser]


def confirm(
    setting: Setting,
    records: Sequence[TrialRecord],
    classifier: nn.Module,
    trainer: Trainer,
    counter: VoteCounter,
    context: Context,
) -> Confirmation:
    """Confirm the best of `records`, choose the variants, and write the tables of both.

    Candidates are scored in front of the real `classifier`, and so is that classifier by itself.

    Raises:
        AllTrialsFailed: when a variant has no candidate.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
    config, seed = context.config, context.seed(setting.name, "confirm")
    step, track = f"{setting.name}: confirmation", context.reporter.track
    shape = setting.shots.tuning_images.shape[1:]
    folds = fresh_folds(setting.shots, config.confirm_folds, seed)
    shortlist = shortlisted(records, config.candidates, config.pareto)
    with track(f"{step} trainings", len(shortlist) * len(folds)) as advance:
        candidates = train_on_folds(shortlist, folds, seed, trainer, advance)
    contenders = [
        Contender(
            candidate.trial,
            candidate.trial.hyperparameters.sigma,
            [counter.voter(smoothable(d, classifier), shape) for d in candidate.denoisers],
        )
        for candidate in candidates
    ]
    bare = [counter.voter(classifier, shape)] * len(folds)
    contenders += [Contender(None, sigma, bare) for sigma in setting.space.sweep]
    scorer = Scorer(step, setting, folds, config, seed, counter)
    votes = confirmation_votes(config, setting, len(candidates))
    with track(f"{step} votes", votes) as advance:
        scores = scorer.score(contenders, advance)
    confirmation = choose_variants(contenders, scores, config)
    write_confirmation(setting, confirmation, context)
    return confirmation


def fresh_folds(shots: Shots, count: int, seed: int) -> list[Shots]:
    """`count` fresh splits of the shots, drawn with the seed of the confirmation."""
    return [shots.fold(number, derive_seed(seed, "folds")) for number in range(count)]


def train_on_folds(
    shortlist: Sequence[TrialRecord],
    folds: Sequence[Shots],
    seed: int,
    trainer: Trainer,
    advance: Callable[[int], None],
) -> list[Trained]:
    """The trials of the shortlist, each trained again on every fold, without those that diverge.

    On a fold, all trainings have the same seed. `advance` is called with 1 for each denoiser.
    """
    trainings = [
        Training(
            record.hyperparameters,
            fold.train_images,
            fold.train_labels,
            derive_seed(seed, "training", number),
        )
        for record in shortlist
        for number, fold in enumerate(folds)
    ]
    denoisers = iter(trainer.train(trainings, advance))
    trained = []
    for record in shortlist:
        found = [d for d in islice(denoisers, len(folds)) if d is not None]
        if len(found) == len(folds):
            trained.append(Trained(record, found))
    return trained


def choose_variants(
    contenders: Sequence[Contender], scores: Sequence[FoldScores], config: RunConfig
) -> Confirmation:
    """The variants that follow from the contenders and their scores.

    Raises:
        AllTrialsFailed: when a variant has no candidate.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
    confirmed = [
        Confirmed(
            contender.trial,
            contender.sigma,
            Score(float(found.objective.mean()), found.draws.standard_error(found.objective)),
            tuple(found.objective.tolist()),
            found.draws,
            float(found.correct.mean()),
            found.unseen,
        )
        for contender, found in zip(contenders, scores, strict=True)
    ]
    trained = [c for c in confirmed if c.trial is not None]
    bare = [c for c in confirmed if c.trial is None]
    equals = tied(trained, config.min_accuracy)
    variants = {
        "none": highest(bare),
        "label_consistency": highest(_of_origin(trained, "label_consistency")),
        "published": highest(_of_origin(trained, "published")),
        "best": highest(equals),
    }
    # The stronger of the two; there is only one if published was best at its own sigma.
    swept = [c for c in trained if c.trial is not None and c.trial.origin == PUBLISHED_SIGMA]
    return Confirmation(
        variants,
        tuple(equals),
        {PUBLISHED_BEST_SIGMA: highest([variants["published"], *swept])}
        | (pareto_front(trained) if config.pareto else {}),
        tuple(trained),
        tuple(bare),
        config.confirm_votes,
        config.confirm_folds,
    )


def _of_origin(trials: Sequence[Confirmed], origin: str) -> list[Confirmed]:
    found = [c for c in trials if c.trial is not None and c.trial.origin == origin]
    if not found:
        raise AllTrialsFailed(f"{origin} diverged when it was trained again")
    return found
