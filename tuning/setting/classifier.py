"""The frozen base classifier of a setting: the user's own, or one trained once and cached."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from results import files
from trainables.black_box.endpoint import HttpClassifier
from trainables.black_box.queries import BlackBox, Queries
from trainables.black_box.surrogate import EFFORT, check_budget, distill
from trainables.cache import cache_folder
from trainables.data.datasets import Dataset
from trainables.models.architectures import ARCHITECTURES
from trainables.models.classifiers import BaseClassifier
from trainables.pretraining.cached import EPOCHS, cached_classifier, cached_path
from trainables.smoothing.assumptions import check_assumptions, check_gradients
from trainables.smoothing.noise import derive_seed
from trainables.weights.checkpoint import load_classifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier
from trainables.worker import using_threads
from tuning.config import RunConfig, is_endpoint
from tuning.errors import ConfigError
from tuning.monitoring.progress import Reporter
from tuning.setting.fit import Fit, fit_of, report_fit
from tuning.setting.setting import Setting

# The architecture that is trained for a data set when the user has no classifier.
DEFAULT_ARCHITECTURES = {"digits": "digits_cnn"}


class Access(NamedTuple):
    """What is certified, how well it fits the shots, and what the denoiser is trained through.

    A black box is replaced by a surrogate for training. `queries` says how many queries that took;
    it is empty for a white box.
    """

    certified: nn.Module
    fit: Fit
    trained_through: BaseClassifier
    queries: dict[str, float]


def check_classifiers(config: RunConfig, settings: list[Setting]) -> dict[str, Fit]:
    """Make sure, before anything is written, that every setting has a classifier that fits it.

    Returns:
        How well it fits, by setting; without the settings whose classifier is yet to be trained.

    Raises:
        ConfigError: when one is missing, or has a different number of classes.
        InputError: when one cannot be loaded, does not take such images or answers otherwise than
            certificates assume, or the query budget is too small.
    """
    fits = {}
    for setting in settings:
        images = setting.shots.train_images
        classifier = check_classifier(config, setting.dataset, images)
        if isinstance(classifier, BaseClassifier) and config.access == "white-box":
            # Training needs features and gradients, which certification does not.
            classifier.probe(images[:2])
            with using_threads(1):
                check_gradients(classifier, images[:2])
        if config.access == "black-box":
            check_budget(config.query_budget, len(setting.shots.train_labels))
        if classifier is not None:
            fits[setting.name] = fit_of(classifier, setting.shots, setting.dataset.classes)
    return fits


def gain_access(config: RunConfig, setting: Setting, fit: Fit | None, reporter: Reporter) -> Access:
    """The setting's classifier, trained or distilled first if necessary.

    `fit` is what `check_classifiers` found out; what it could not know is found out here.

    Raises:
        InputError: when the classifier fails, or the query budget is too small.
    """
    images = setting.shots.train_images[:2]
    classifier: nn.Module = base_classifier(config, setting.dataset, images, reporter)
    if fit is None:
        fit = fit_of(classifier, setting.shots, setting.dataset.classes)
        report_fit(setting.name, fit, reporter)
    if config.access == "white-box":
        assert isinstance(classifier, BaseClassifier)
        return Access(classifier, fit, classifier, {})
    if isinstance(classifier, BaseClassifier):
        classifier = BlackBox(classifier)
    queries = Queries(classifier, setting.folder / files.QUERIES, config.query_budget)
    sweep = setting.space.sweep
    with (
        reporter.track(f"{setting.name}: surrogate", EFFORT.total) as advance,
        using_threads(1),
    ):
        surrogate = distill(
            queries,
            setting.shots.train_images,
            sigmas=(min(sweep), max(sweep)),
            seed=derive_seed(config.seed, setting.name, "surrogate"),
            progress=advance,
        )
    reporter.say(
        f"{setting.name}: after {queries.asked} queries the surrogate agrees with the classifier "
        f"on {surrogate.agreement:.0%} of those held out"
    )
    asked = {"training": queries.asked, "surrogate_agreement": round(surrogate.agreement, 4)}
    return Access(classifier, fit, surrogate.classifier, asked)


def base_classifier(
    config: RunConfig, dataset: Dataset, images: Tensor, reporter: Reporter
) -> BaseClassifier | HttpClassifier:
    """The classifier that --classifier names, or the data set's default, trained at first use.

    `images` [n, C, H, W] are examples.

    Raises:
        ConfigError: when it has a different number of classes from the data set.
        InputError: when it cannot be loaded, or does not take such images.
    """
    if config.classifier is not None:
        return _load(config, config.classifier, dataset, images)
    arch = DEFAULT_ARCHITECTURES[dataset.name]
    path = cached_path(dataset, arch, cache_folder())
    if path.is_file():
        return load_classifier(path)
    with reporter.track(f"{dataset.name}: base classifier", EPOCHS) as advance, using_threads(1):
        return cached_classifier(dataset, arch, cache_folder(), advance)


def untrained_classifier(config: RunConfig, dataset: Dataset, images: Tensor) -> BaseClassifier:
    """A classifier as fast as the one that `base_classifier` loads, which is trained only there.

    Raises:
        ConfigError: when it has a different number of classes from the data set.
        InputError: when it cannot be loaded, or does not take such images.
    """
    if config.classifier is not None:
        loaded = _load(config, config.classifier, dataset, images[:2])
        assert isinstance(loaded, BaseClassifier)
        return loaded
    architecture = ARCHITECTURES[DEFAULT_ARCHITECTURES[dataset.name]]
    network = architecture.build(images.shape[1], len(dataset.classes)).eval()
    return BaseClassifier(network, architecture.mean, architecture.std)


def check_classifier(config: RunConfig, dataset: Dataset, images: Tensor) -> nn.Module | None:
    """The classifier that `base_classifier` will load, tried on `images`; None if it will train it.

    Raises:
        ConfigError: when it is missing, or has a different number of classes.
        InputError: when it cannot be loaded, does not take such images, or answers otherwise than
            certificates assume.
    """
    if config.classifier is not None:
        classifier = _load(config, config.classifier, dataset, images[:2])
        with using_threads(1):
            check_assumptions(classifier, images)
        return classifier
    if dataset.name not in DEFAULT_ARCHITECTURES:
        raise ConfigError(
            f"--classifier: there is no default for {dataset.name}; pass one trained on it, or "
            f"train one: python -m trainables.pretraining --dataset {dataset.name} --out FILE"
        )
    path = cached_path(dataset, DEFAULT_ARCHITECTURES[dataset.name], cache_folder())
    return load_classifier(path) if path.is_file() else None


def _load(
    config: RunConfig, spec: str, dataset: Dataset, images: Tensor
) -> BaseClassifier | HttpClassifier:
    classifier: BaseClassifier | HttpClassifier
    if is_endpoint(spec):
        classifier = HttpClassifier.connect(spec)
    else:
        classifier = load_base_classifier(
            ClassifierSpec(
                spec,
                weights=config.weights,
                mean=config.mean,
                std=config.std,
                feature_layer=config.feature_layer,
            ),
            images,
            download=config.download,
        )
    answers: Tensor = classifier(images)
    found, classes = answers.shape[1], len(dataset.classes)
    if found != classes:
        raise ConfigError(f"--classifier: it has {found} classes, but {dataset.name} has {classes}")
    return classifier
