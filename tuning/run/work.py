"""How much work a run is going to be, predicted from its configuration alone."""

from __future__ import annotations

from typing import NamedTuple

from trainables.choices import ProcedureName
from trainables.decrop.config import DecropConfig
from trainables.decrop.operations import Operations
from trainables.models.classifiers import BaseClassifier
from tuning.config import RunConfig
from tuning.search.budget import (
    certified_models,
    confirmation_votes,
    later_trainings,
    shortlist_size,
)
from tuning.search.time_left import expected_share
from tuning.setting.setting import Setting
from tuning.study.points import compared

# The share of its votes that a certificate takes on average (docs/certification.md).
EXPECTED_VOTES: dict[ProcedureName, float] = {"fixed": 1.0, "tolerance": 0.25, "adaptive": 0.1}


class Work(NamedTuple):
    """Full trainings and votes of a setting by phase, as many as are expected."""

    searched: float
    confirmed: int
    trained: int
    confirmation_votes: int
    certification_votes: float


def expected_work(config: RunConfig, setting: Setting) -> Work:
    """What a setting is expected to take."""
    share = expected_share(setting.rungs, config.scheduler)
    shortlist = shortlist_size(config)
    votes = config.n0 + EXPECTED_VOTES[config.procedure] * config.n
    return Work(
        len(compared(setting.space)) + share * config.trials,
        shortlist * config.confirm_folds,
        later_trainings(config) - shortlist * config.confirm_folds,
        confirmation_votes(config, setting, shortlist),
        certified_models(config) * len(setting.test.indices) * votes,
    )


def expected_operations(
    config: RunConfig, setting: Setting, classifier: BaseClassifier
) -> dict[str, float]:
    """Floating-point operations by the name of the step that progress shows, without the search."""
    operations = Operations(classifier, setting.shots.train_images)
    point = DecropConfig.model_validate(setting.space.named)
    training = point.epochs * operations.of_epoch(point)
    vote = operations.of_votes(point, 1)
    work = expected_work(config, setting)
    return {
        f"{setting.name}: search": work.searched * training,
        f"{setting.name}: confirmation trainings": work.confirmed * training,
        f"{setting.name}: confirmation votes": work.confirmation_votes * vote,
        f"{setting.name}: certification votes": work.trained * training
        + work.certification_votes * vote,
    }
