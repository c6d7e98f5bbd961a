"""The validated configuration of a run, made once from flags and YAML."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from trainables.command import flag, problem
from trainables.data.form import ImageForm
from trainables.errors import nearest
from tuning.config.certificate import CertificateConfig, check_certificate
from tuning.config.classifier import ClassifierConfig, check_classifier
from tuning.config.cluster import ClusterConfig, check_cluster
from tuning.config.data import DataConfig
from tuning.config.output import OutputConfig
from tuning.config.search import SearchConfig, check_search
from tuning.errors import ConfigError

# The help groups of the flags, and their order.
GROUPS: Mapping[str, type[BaseModel]] = {
    "data": DataConfig,
    "images": ImageForm,
    "classifier": ClassifierConfig,
    "search": SearchConfig,
    "certificate": CertificateConfig,
    "cluster": ClusterConfig,
    "output": OutputConfig,
}
# Votes per tuning image in confirmation, at least.
FEWEST_VOTES = 50
# What a resumed run may change: how long and where it runs, never what it computes. (The number of
# cores per trial is not among them: a different one adds numbers up in a different order.)
RESUMABLE = {
    "trials",
    "budget",
    "device_hours",
    "trial_timeout",
    "cluster",
    "concurrency",
    "gpu_type",
    "autoscaling",
    "grace",
    "storage",
    "out",
    # Unless something outside of its folder is named after the run.
    "name",
    "download",
    # Picks among the confirmed configurations.
    "min_accuracy",
}


# Pydantic takes the fields of the last base first, so these are in the order of `GROUPS`.
class RunConfig(
    OutputConfig,
    ClusterConfig,
    CertificateConfig,
    SearchConfig,
    ClassifierConfig,
    ImageForm,
    DataConfig,
):
    """Everything a run depends on. The fields are named like the flags."""

    @property
    def image_form(self) -> ImageForm:
        """The form of the images."""
        return ImageForm(**{name: getattr(self, name) for name in ImageForm.model_fields})


def make_config(values: Mapping[str, Any]) -> RunConfig:
    """Validate `values`, by field name.

    Raises:
        ConfigError: naming the first field that is wrong, and what it should be.
    """
    config = _validated(values)
    if "confirm_votes" not in values:
        # Whoever is content with few votes for a certificate wants no more for a choice.
        votes = max(FEWEST_VOTES, min(config.confirm_votes, config.n))
        config = config.model_copy(update={"confirm_votes": votes})
    check_classifier(config)
    check_search(config)
    check_certificate(config)
    check_cluster(config)
    _check_form(config)
    return config


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse values that are wrong on their own, whatever the rest of the configuration is.

    Raises:
        ConfigError: naming the first of them, and what it should be.
    """
    _validated({"name": "unnamed", **values})


def _check_form(config: RunConfig) -> None:
    """Refuse to change the images of the classifier that is trained on them as they are."""
    if config.changes_images and "digits" in config.dataset and config.classifier is None:
        field = "channels" if config.image_size is None else "image_size"
        raise ConfigError(
            f"{flag(field)}: the default classifier takes digits as they are; pass --classifier too"
        )


def _validated(values: Mapping[str, Any]) -> RunConfig:
    for name in values:
        if name not in RunConfig.model_fields:
            raise ConfigError(f"{flag(name)}: unknown{nearest(name, RunConfig.model_fields)}")
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise ConfigError(problem(error)) from error
