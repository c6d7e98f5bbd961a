"""The frozen base classifier of a setting: the user's own, or one trained once and cached."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from trainables.models.checkpoint import load_classifier
from trainables.models.classifiers import BaseClassifier
from trainables.models.pretrain import EPOCHS, cached_classifier, cached_path
from tuning.config import RunConfig
from tuning.errors import ConfigError
from tuning.progress import Reporter
from tuning.setting import Setting

# The architecture that is trained for a data set when the user brings no classifier.
DEFAULT_ARCHITECTURES = {"digits": "digits_cnn"}


def check_classifiers(config: RunConfig, settings: list[Setting]) -> None:
    """Make sure, before anything is written, that every setting has a classifier that fits it.

    Raises:
        ConfigError: when one is missing, or made for other images or classes.
        InputError: when a checkpoint cannot be read.
    """
    for setting in settings:
        if config.classifier is not None:
            _check(load_classifier(Path(config.classifier)), setting)
        elif setting.dataset.name not in DEFAULT_ARCHITECTURES:
            raise ConfigError(
                f"--classifier: the data set {setting.dataset.name} brings none; pass a checkpoint "
                '{"arch", "state_dict"} of a classifier trained on it'
            )


def base_classifier(config: RunConfig, setting: Setting, reporter: Reporter) -> BaseClassifier:
    """The classifier that --classifier names, or the data set's own, trained at first use."""
    if config.classifier is not None:
        return load_classifier(Path(config.classifier))
    dataset, arch = setting.dataset, DEFAULT_ARCHITECTURES[setting.dataset.name]
    path = cached_path(dataset, arch, cache_folder())
    if path.is_file():
        return load_classifier(path)
    # One thread, so that the weights do not depend on the machine's number of cores.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with reporter.track(f"{setting.name}: base classifier", EPOCHS) as advance:
            return cached_classifier(dataset, arch, cache_folder(), advance)
    finally:
        torch.set_num_threads(threads)


def cache_folder() -> Path:
    """Where trained base classifiers are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "decrop"


def _check(classifier: BaseClassifier, setting: Setting) -> None:
    classes, image = len(setting.dataset.classes), setting.shots.train_images[:1]
    if classifier.num_classes != classes:
        raise ConfigError(
            f"--classifier: it tells {classifier.num_classes} classes apart, but "
            f"{setting.dataset.name} has {classes}"
        )
    try:
        with torch.inference_mode():
            classifier(image)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"--classifier: it does not accept images of shape {tuple(image.shape[1:])} "
            "(channels, height, width), which is what the data set holds"
        ) from error
