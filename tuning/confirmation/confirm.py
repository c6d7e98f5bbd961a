"""Confirmation: the best few configurations and the baselines again, from scratch.

The best of many noisy scores flatters its trial. Here each candidate is trained again, with fresh
seeds on fresh splits of the shots, and scored on fresh noise; how much lower it scores is the
optimism gap. What is certified is then trained once more, on all shots. Everything here happens on
the shots; test images play no part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from statistics import mean

from torch import nn

from trainables.acceleration.voting import Precision, prepared
from trainables.data.splits import Shots
from trainables.models.denoisers import Denoiser
from trainables.smoothing.certify import Request
from trainables.smoothing.noise import derive_seed
from trainables.smoothing.objective import Objective, Score
from trainables.weights.checkpoint import weights_hash
from tuning.cluster.resources import Resources
from tuning.config import RunConfig
from tuning.confirmation.selection import Confirmed, choose, highest, pareto_front
from tuning.confirmation.training import Trainer, Training
from tuning.errors import AllTrialsFailed
from tuning.setting.setting import Setting
from tuning.study.attempts import TrialRecord
from tuning.votes.collector import Asking, VoteJob, collect_votes
from tuning.votes.store import VoteStore


@dataclass(frozen=True)
class Trained:
    """A trial whose configuration was trained again, once on each fold."""

    trial: TrialRecord
    denoisers: list[Denoiser]


@dataclass(frozen=True)
class Candidate:
    """What is certified: a confirmed configuration, and its model trained on all shots."""

    confirmed: Confirmed
    model: nn.Module
    denoiser: Denoiser | None = None


@dataclass(frozen=True)
class Confirmation:
    """All that was confirmed, and what it means: for each variant the chosen one.

    `front` are the members of the Pareto front by name, if the search was for one.
    """

    variants: dict[str, Confirmed]
    front: dict[str, Confirmed]
    trials: tuple[Confirmed, ...]
    bare: tuple[Confirmed, ...]
    votes: int
    folds: int


@dataclass(frozen=True)
class Scorer:
    """Scores candidates on the tuning images of the folds; `classifier` is the real one."""

    setting: Setting
    classifier: nn.Module
    config: RunConfig
    seed: int
    store: VoteStore
    resources: Resources
    precision: Precision

    @cached_property
    def folds(self) -> list[Shots]:
        """Fresh splits of the shots."""
        return [
            self.setting.shots.fold(number, derive_seed(self.seed, "folds"))
            for number in range(self.config.confirm_folds)
        ]

    def trainings(self, record: TrialRecord) -> list[Training]:
        """The configuration of `record` on each fold; the seeds are those of every candidate."""
        return [
            Training(
                record.hyperparameters,
                fold.train_images,
                fold.train_labels,
                derive_seed(self.seed, "training", number),
            )
            for number, fold in enumerate(self.folds)
        ]

    def score(
        self,
        models: Sequence[tuple[float, Sequence[nn.Module]]],
        advance: Callable[[int], None],
    ) -> list[tuple[list[float], list[float]]]:
        """Score and correctness of each image of each fold, for each sigma with its models."""
        folds, votes = self.folds, self.config.confirm_votes
        shape = self.setting.shots.tuning_images.shape[1:]
        # The bare classifier votes on every fold at every sigma.
        distinct = {id(model): model for _, of_folds in models for model in of_folds}
        copies = {key: prepared(model, shape, self.precision) for key, model in distinct.items()}
        hashes = {key: f"{weights_hash(m)}-{self.precision}" for key, m in distinct.items()}
        jobs = [
            VoteJob(
                name=f"{self.setting.name}: confirmation",
                model=copies[id(model)],
                model_hash=hashes[id(model)],
                images=fold.tuning_images,
                indices=fold.tuning_indices,
                sigma=sigma,
                seed=self.seed,
                ask=partial(_casting, votes),
                most=votes,
            )
            for sigma, of_folds in models
            for model, fold in zip(of_folds, folds, strict=True)
        ]
        answers = collect_votes(jobs, self.store, self.resources, advance)
        objectives = (Objective.parse(self.config.objective), Objective.clean_accuracy())
        scores: list[tuple[list[float], list[float]]] = []
        for number, (job, of_images) in enumerate(zip(jobs, answers, strict=True)):
            labels = folds[number % len(folds)].tuning_labels.tolist()
            right = [answer.result[label] for answer, label in zip(of_images, labels, strict=True)]
            if number % len(folds) == 0:
                scores.append(([], []))
            for objective, found in zip(objectives, scores[-1], strict=True):
                found += objective.scores(
                    right, votes, n=self.config.n, sigma=job.sigma, alpha=self.config.alpha
                )
        return scores


def train_candidates(
    shortlist: Sequence[TrialRecord],
    scorer: Scorer,
    trainer: Trainer,
    advance: Callable[[int], None],
) -> list[Trained]:
    """The shortlist, each of it trained again on every fold; without those that diverge.

    `advance` is called with 1 for each denoiser.
    """
    trainings = [training for record in shortlist for training in scorer.trainings(record)]
    denoisers = iter(trainer.train(trainings, advance))
    trained = []
    for record in shortlist:
        found = [d for d in islice(denoisers, len(scorer.folds)) if d is not None]
        if len(found) == len(scorer.folds):
            trained.append(Trained(record, found))
    return trained


def confirm(
    candidates: Sequence[Trained], scorer: Scorer, advance: Callable[[int], None]
) -> Confirmation:
    """Score the candidates beside the bare classifier, and choose the variants.

    `advance` is called with the number of votes just counted.

    Raises:
        AllTrialsFailed: when a variant has no candidate.
        ConfigError: when no candidate is as accurate as --min-accuracy.
    """
    config, sweep = scorer.config, scorer.setting.space.sweep
    models: list[tuple[float, list[nn.Module]]] = [
        (sigma_of(c.trial), [smoothable(d, scorer.classifier) for d in c.denoisers])
        for c in candidates
    ]
    models += [(sigma, [scorer.classifier] * config.confirm_folds) for sigma in sweep]
    trials: list[TrialRecord | None] = [c.trial for c in candidates]
    confirmed = [
        Confirmed(trial, sigma, Score.of(scores), tuple(scores), mean(correct))
        for trial, (sigma, _), (scores, correct) in zip(
            [*trials, *(None for _ in sweep)], models, scorer.score(models, advance), strict=True
        )
    ]
    trained, bare = confirmed[: len(trials)], confirmed[len(trials) :]
    variants = {
        "none": highest(bare),
        "label_consistency": highest(_of_origin(trained, "label_consistency")),
        "published": highest(_of_origin(trained, "published")),
        "best": choose(trained, config.min_accuracy),
    }
    return Confirmation(
        variants,
        pareto_front(trained) if config.pareto else {},
        tuple(trained),
        tuple(bare),
        config.confirm_votes,
        config.confirm_folds,
    )


def retrain(
    confirmation: Confirmation,
    setting: Setting,
    trainer: Trainer,
    classifier: nn.Module,
    seed: int,
) -> dict[str, Candidate]:
    """The variants and the members of the front, each trained on all shots.

    A member of the front that diverges is left out.

    Raises:
        AllTrialsFailed: when the loss of a variant becomes infinite.
    """
    images, labels, _ = setting.shots.joined()
    chosen_ones = confirmation.variants | confirmation.front
    trained = {
        variant: Training(chosen.trial.hyperparameters, images, labels, seed)
        for variant, chosen in chosen_ones.items()
        if chosen.trial is not None
    }
    denoisers = dict(zip(trained, trainer.train(list(trained.values())), strict=True))
    candidates = {}
    for variant, chosen in chosen_ones.items():
        if chosen.trial is None:
            candidates[variant] = Candidate(chosen, classifier)
            continue
        denoiser = denoisers[variant]
        if denoiser is None:
            if variant in confirmation.front:
                continue
            raise AllTrialsFailed(
                f"{variant}: trial {chosen.trial.number} diverges when trained on all shots"
            )
        candidates[variant] = Candidate(chosen, smoothable(denoiser, classifier), denoiser)
    return candidates


def sigma_of(record: TrialRecord) -> float:
    """The noise a trial was trained for."""
    return record.hyperparameters.sigma


def smoothable(denoiser: Denoiser, classifier: nn.Module) -> nn.Module:
    """What is smoothed: the classifier of denoised images."""
    return nn.Sequential(denoiser, classifier).eval()


def _casting(votes: int) -> Asking[list[int]]:
    """A fixed number of votes."""
    return (yield Request("confirm", 0, votes))


def _of_origin(trials: Sequence[Confirmed], origin: str) -> list[Confirmed]:
    found = [c for c in trials if c.trial is not None and c.trial.origin == origin]
    if not found:
        raise AllTrialsFailed(f"{origin} diverges when it is trained again")
    return found
