"""What is certified: the models of a run or of an export, or the user's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from results import files
from results.run import load_run
from trainables.acceleration.voting import Precision
from trainables.choices import DEFAULT_RADII
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.splits import HeldOutImages, held_out_images
from trainables.errors import InputError
from trainables.models.denoisers import Denoiser
from trainables.smoothing.export import Export
from trainables.smoothing.quantised import steps_of
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import load_denoiser, read_denoiser, trained_sigma
from tuning.config import RunConfig, read_yaml, setting_name
from tuning.errors import ConfigError

# The fields that say where a run computed; certificates do not depend on them.
CLUSTER_FIELDS = ("cluster", "storage", "concurrency", "autoscaling")


class Model(NamedTuple):
    """A denoiser in front of the classifier, or None for the classifier itself, and its sigma.

    `origin` is one of `results.schema.ORIGINS`; `trial`, `objective` and `accuracy` are its results
    in search and confirmation.
    """

    denoiser: Denoiser | None
    sigma: float
    origin: str = "none"
    trial: int | None = None
    objective: float | None = None
    accuracy: float | None = None

    @property
    def identity(self) -> dict[str, Any]:
        """What distinguishes its certificates from those of other models."""
        denoiser = None if self.denoiser is None else weights_hash(self.denoiser)
        return {"sigma": self.sigma, "denoiser_hash": denoiser}


@dataclass(frozen=True)
class Subject:
    """Models by variant, to certify on the same held-out images of `dataset`.

    `precision` is the one of an earlier certification, if any. The noise is rounded to multiples of
    1 / `pixel_steps`; 0 stands for Gaussian noise. `radii` are those that its users care about.
    `export` is what the classifier is checked against, if it is an export that is certified.
    """

    name: str
    dataset: Dataset
    test: HeldOutImages
    models: Mapping[str, Model]
    pixel_steps: int
    radii: tuple[float, ...] = DEFAULT_RADII
    precision: Precision | None = None
    export: Export | None = None

    def check_classifier(self, classifier: nn.Module) -> None:
        """Make sure that an export is certified with the classifier that it was made for.

        Raises:
            ConfigError: when it is a different one.
        """
        if self.export is not None:
            try:
                self.export.check_classifier(classifier)
            except InputError as error:
                raise ConfigError(f"--classifier: {error}") from error


def configuration_of_run(run: Path) -> dict[str, Any]:
    """The configuration of a run, except where it ran."""
    stored = read_yaml(run / files.CONFIG)
    return {name: value for name, value in stored.items() if name not in CLUSTER_FIELDS}


def configuration_of_export(path: Path, export: Export) -> dict[str, Any]:
    """The configuration that follows from an export, unless flags say otherwise.

    It is its noise, the form of its images, and its classifier, if it holds that.
    """
    found = export.config
    own = {} if found.classifier_file_hash is None else {"classifier": str(path)}
    noise = "quantised" if found.pixel_steps else "gaussian"
    return {"noise": noise, **own, **found.image_form.model_dump()}


def subjects_of_run(run: Path, config: RunConfig) -> list[Subject]:
    """The settings of a run, each with all models that were certified.

    Raises:
        StoreError: when the run is incomplete or damaged.
        InputError: when a data set or a denoiser cannot be loaded.
        ConfigError: when the configuration is about other data sets.
    """
    datasets = {
        setting_name(dataset, shots): dataset
        for dataset in config.dataset
        for shots in config.shots
    }
    loaded = load_run(run)
    if missing := [s.name for s in loaded.settings if s.name not in datasets]:
        raise ConfigError(
            f"--dataset: the run was on {', '.join(missing)}, not on {', '.join(datasets)}; leave "
            "the flag out, or pass the run's smoothed_classifier instead of the run"
        )
    subjects = []
    for setting in loaded.settings:
        models = {row["variant"]: _certified_before(run, row) for row in setting.summary}
        known = loaded.manifest["settings"].get(setting.name, {})
        radii = config.radii or tuple(known.get("radii", DEFAULT_RADII))
        found = _subject(config, datasets[setting.name], setting.name, models)
        subjects.append(replace(found, radii=radii, precision=known.get("precision")))
    return subjects


def subject_of_export(
    config: RunConfig, path: Path, export: Export, sigma: float | None
) -> Subject:
    """The `export` in the folder `path`, on the only data set; raises as `subject_of_file`.

    Images of a different shape from those that it was made for raise a ConfigError as well.
    """
    found = export.config
    model = Model(export.denoiser, _trained(path, found.sigma, sigma), found.origin)
    subject = _subject_of_model(config, model)
    shape = tuple(subject.test.images.shape[1:])
    if shape != found.image_shape:
        raise ConfigError(
            f"--image-size: {path} takes images of {_by(found.image_shape)} (channels, height, "
            f"width), but those of {subject.dataset.name} have {_by(shape)}; pass what its run was "
            "given as --image-size and --channels"
        )
    return replace(subject, precision=found.precision, export=export)


def subject_of_file(config: RunConfig, path: Path | None, sigma: float | None) -> Subject:
    """A denoiser file or, without a path, the classifier itself, on the only data set.

    Raises:
        ConfigError: when `sigma` is missing or not the one it was trained for, or the images have
            a different number of channels.
        InputError: when the data set or the denoiser cannot be loaded.
    """
    if path is None:
        return _subject_of_model(config, Model(None, _valid(sigma)))
    data = read_denoiser(path, "denoiser")
    trained = _trained(path, trained_sigma(data), sigma)
    return _subject_of_model(config, Model(load_denoiser(data), trained, "file"))


def _subject_of_model(config: RunConfig, model: Model) -> Subject:
    if len(config.dataset) > 1:
        raise ConfigError(f"--dataset: name one, not {', '.join(config.dataset)}")
    (dataset,) = config.dataset
    variant = "none" if model.denoiser is None else "best"
    subject = _subject(config, dataset, dataset, {variant: model})
    channels = subject.test.images.shape[1]
    if model.denoiser is not None and model.denoiser.channels != channels:
        raise ConfigError(
            f"--denoiser: it takes images with {model.denoiser.channels} channels, but those of "
            f"{dataset} have {channels}"
        )
    return subject


def _trained(path: Path, trained: float | None, sigma: float | None) -> float:
    """The sigma of a denoiser: the one it was `trained` for or, if that is not known, --sigma."""
    if None not in (sigma, trained) and sigma != trained:
        raise ConfigError(
            f"--sigma: {path} was trained for {trained:g}; leave the flag out, or pass a "
            f"denoiser trained for {sigma:g}"
        )
    return _valid(sigma if trained is None else trained)


def _subject(
    config: RunConfig,
    dataset_name: str,
    name: str,
    models: Mapping[str, Model],
) -> Subject:
    dataset = load_dataset(
        dataset_name,
        config.data_dir,
        download=config.download,
        form=config,
        class_order=config.class_order,
    )
    test = held_out_images(dataset, config.certify_images)
    pixel_steps = steps_of(config.noise, dataset, test)
    radii = config.radii or DEFAULT_RADII
    return Subject(name, dataset, test, models, pixel_steps, radii)


def _certified_before(run: Path, row: Mapping[str, Any]) -> Model:
    """The model for a row of the run's summary."""
    denoiser = None
    if row["origin"] != "none":
        path = run / row["setting"] / files.denoiser(row["variant"])
        denoiser = load_denoiser(read_denoiser(path))
    known = (row["origin"], row["trial"], row["tuning_objective"], row["tuning_accuracy"])
    return Model(denoiser, row["sigma"], *known)


def _by(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _valid(sigma: float | None) -> float:
    if sigma is None:
        raise ConfigError("--sigma: is missing; pass the noise to certify under, for example 0.25")
    if not 0 < sigma < float("inf"):
        raise ConfigError(f"--sigma: must be above 0; got {sigma}")
    return sigma
