"""Confirmation: the best few configurations and the baselines are trained again, from scratch.

The best of many noisy scores flatters its trial. Here each candidate is trained again, with fresh
seeds on fresh splits of the shots, and scored on fresh noise; how much lower it scores is the
optimism gap. All of this uses only the shots, not the test images.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from results.schema import PUBLISHED_BEST_SIGMA
from trainables.data.splits import Shots
from trainables.smoothing.noise import derive_seed
from trainables.smoothing.objective import Score
from tuning.cluster.context import Context
from tuning.cluster.pool import Urgency
from tuning.config import RunConfig
from tuning.confirmation.scoring import FoldScores, Scorer, Votes
from tuning.confirmation.selection import (
    Confirmation,
    Confirmed,
    highest,
    pareto_front,
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
from tuning.votes.job import Outcome


async def confirm(
    setting: Setting,
    shortlist: Sequence[TrialRecord],
    classifier: nn.Module,
    trainer: Trainer,
    counter: VoteCounter,
    context: Context,
) -> Confirmation:
    """Confirm the trials of `shortlist`, choose the variants, and write the tables of both.

    Candidates are scored in front of the real `classifier`, and so is that classifier by itself.
    The votes on what is trained are counted while the rest is trained.

    Raises:
        AllTrialsFailed: when a variant has no candidate.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
    config, seed = context.config, context.seed(setting.name, "confirm")
    step, track = f"{setting.name}: confirmation", context.reporter.track
    folds = fresh_folds(setting.shots, config.confirm_folds, seed)
    votes = confirmation_votes(config, setting, len(shortlist))
    with (
        track(f"{step} trainings", len(shortlist) * len(folds)) as trained,
        track(f"{step} votes", votes, fast=True) as counted,
    ):
        scorer = Scorer(step, setting, folds, config, seed, counter, counted)
        again = Candidates(classifier, trainer, scorer, trained)
        # The longest first: a long training that begins last would keep all others waiting.
        in_order = sorted(shortlist, key=lambda record: -record.seconds)
        bare, found = await asyncio.gather(
            again.confirm_bare(setting.space.sweep),
            asyncio.gather(*map(again.confirm, in_order)),
        )
    by_number = {record.number: one for record, one in zip(in_order, found, strict=True)}
    candidates = [one for record in shortlist if (one := by_number[record.number])]
    confirmation = choose_variants(candidates, bare, config)
    write_confirmation(setting, confirmation, context)
    return confirmation


def fresh_folds(shots: Shots, count: int, seed: int) -> list[Shots]:
    """`count` fresh splits of the shots, drawn with the seed of the confirmation."""
    return [shots.fold(number, derive_seed(seed, "folds")) for number in range(count)]


@dataclass(frozen=True)
class Candidates:
    """Trains configurations again, once on each fold of the `scorer`, and scores them there.

    `advance` is called with 1 for each denoiser.
    """

    classifier: nn.Module
    trainer: Trainer
    scorer: Scorer
    advance: Callable[[int], None]

    async def confirm(self, trial: TrialRecord) -> Confirmed | None:
        """The trial with its score; None if its configuration diverges on a fold."""
        outcomes = await asyncio.gather(
            *(self._on_fold(trial, number) for number in range(len(self.scorer.folds)))
        )
        found = [of_fold for of_fold in outcomes if of_fold is not None]
        if len(found) < len(outcomes):
            return None
        sigma = trial.hyperparameters.sigma
        return confirmed(trial, sigma, self.scorer.scores(sigma, found))

    async def confirm_bare(self, sweep: Sequence[float]) -> list[Confirmed]:
        """The classifier by itself, with its score under noise of each sigma."""
        voter, scorer = self.scorer.voter(self.classifier), self.scorer

        async def confirm(sigma: float) -> Confirmed:
            counting = (scorer.count(voter, fold, sigma) for fold in scorer.folds)
            return confirmed(None, sigma, scorer.scores(sigma, await asyncio.gather(*counting)))

        return await asyncio.gather(*map(confirm, sweep))

    async def _on_fold(self, trial: TrialRecord, number: int) -> list[Outcome[Votes]] | None:
        """On a fold, all trainings have the same seed."""
        fold, config = self.scorer.folds[number], trial.hyperparameters
        seed = derive_seed(self.scorer.seed, "training", number)
        label = f"{trial.label}, fold {number}"
        training = Training(config, fold.train_images, fold.train_labels, seed, label)
        denoiser = await self.trainer.train(training, Urgency.CONFIRMATION_TRAINING)
        self.advance(1)
        if denoiser is None:
            self.scorer.forgo(fold)
            return None
        voter = self.scorer.voter(smoothable(denoiser, self.classifier))
        return await self.scorer.count(voter, fold, config.sigma)


def confirmed(trial: TrialRecord | None, sigma: float, scores: FoldScores) -> Confirmed:
    """A trial, or the bare classifier, under noise of `sigma`, with its scores on all folds."""
    return Confirmed(
        trial,
        sigma,
        Score(float(scores.objective.mean()), scores.draws.standard_error(scores.objective)),
        tuple(scores.objective.tolist()),
        scores.draws,
        float(scores.correct.mean()),
        scores.unseen,
    )


def choose_variants(
    trained: Sequence[Confirmed], bare: Sequence[Confirmed], config: RunConfig
) -> Confirmation:
    """The variants that follow from the confirmed trials and the bare classifier's scores.

    Raises:
        AllTrialsFailed: when a variant has no candidate.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
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
