"""An exported smoothed classifier on disk, and the proof that it is the one that was certified.

It is a folder: the denoiser, with its architecture and sigma; the classifier, if it can be written
to a file; probes, a few images with the logits that are expected for them; and a configuration,
with hashes of the others, of the classifier's weights and of itself.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, model_validator
from safetensors import SafetensorError
from torch import nn

from trainables.acceleration.voting import Precision
from trainables.choices import MOST_PILOT_VOTES, MOST_VOTES, ProcedureName
from trainables.data.form import UNCHANGED, ImageForm
from trainables.errors import InputError, describe_error
from trainables.models.blueprint import Kind
from trainables.models.classifiers import BaseClassifier, IdentifiedClassifier
from trainables.models.denoisers import Denoiser
from trainables.smoothing.noise import Noise
from trainables.smoothing.probes import Probes, read_probes
from trainables.smoothing.procedures import Procedure, make_procedure
from trainables.smoothing.quantised import allowance
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import (
    WEIGHTS,
    load_denoiser,
    read_bytes,
    trained_sigma,
)
from trainables.weights.packed import CLASSIFIER, load_packed

CONFIG = "config.json"
PROBES = "probes.safetensors"
SCHEMA_VERSION: Literal[8] = 8
Origin = Literal[
    "file",
    "published",
    "published_sigma",
    "label_consistency",
    "mse",
    "start",
    "transferred",
    "search",
]
_AGAIN = "copy the whole folder again"
# What to pass for a classifier that is not in the export, by its kind.
_SOURCES = {
    "factory": ", for example load_base_classifier(ClassifierSpec({!r}, weights=FILE), images)",
    "endpoint": ", for example HttpClassifier.connect({!r})",
}
_Hash = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_Radius = Annotated[float, Field(ge=0, le=100)]


class CleanAccuracy(BaseModel, frozen=True, extra="forbid"):
    """How many of `images` clean shots the classifier is right about, with a 95 % interval."""

    right: int = Field(ge=0)
    images: int = Field(ge=1)
    accuracy: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What `config.json` of an export holds.

    The noise is rounded to multiples of 1 / `pixel_steps`; 0 stands for Gaussian noise. `origin`
    says where the hyperparameters of the denoiser come from, "file" if that is not known; `trial`
    is the number of the trial. `class_names`, in the order of the logits, and `clean_accuracy` are
    empty if they are not known. `image_form` says what was done to the images. `classifier_kind`
    and `classifier_name` are those of a `Blueprint`. Hashes are SHA-256: of the classifier's
    weights, of the other files (`classifier_file_hash` is None if the classifier is not among
    them), and of this configuration without `config_hash`.
    """

    schema_version: Literal[8] = SCHEMA_VERSION
    origin: Origin = "file"
    trial: NonNegativeInt | None = None
    # As large as a space allows, and as fine as the pixels of any data set: the table of quantised
    # noise grows with both.
    sigma: float = Field(gt=0, le=4)
    pixel_steps: int = Field(0, ge=0, le=255)
    n0: int = Field(ge=1, le=MOST_PILOT_VOTES)
    n: int = Field(ge=1, le=MOST_VOTES)
    alpha: float = Field(gt=0, lt=1)
    procedure: ProcedureName = "tolerance"
    tolerance: float = Field(0.02, gt=0, allow_inf_nan=False)
    radii: tuple[_Radius, ...] = Field((), max_length=1000)
    num_classes: int = Field(ge=2)
    class_names: tuple[str, ...] = ()
    clean_accuracy: CleanAccuracy | None = None
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    image_form: ImageForm = UNCHANGED
    precision: Precision = "float32"
    classifier_kind: Kind = "module"
    classifier_name: str = Field("", max_length=500)
    classifier_hash: _Hash
    classifier_file_hash: _Hash | None = None
    denoiser_hash: _Hash
    probes_hash: _Hash
    config_hash: str = ""

    @property
    def text(self) -> str:
        """The text of `config.json`."""
        return json.dumps(self.model_dump(), indent=2) + "\n"

    @property
    def expected_hash(self) -> str:
        """What `config_hash` must be."""
        content = self.model_dump(mode="json", exclude={"config_hash"})
        return sha256(json.dumps(content, sort_keys=True).encode())

    def sealed(self) -> Self:
        """The same, with its `config_hash`."""
        return self.model_copy(update={"config_hash": self.expected_hash})

    @property
    def noise(self) -> Noise:
        """The noise that is certified against."""
        return Noise(self.sigma, self.pixel_steps)

    def certificates(
        self, n0: int | None = None, n: int | None = None, alpha: float | None = None
    ) -> Procedure:
        """How certificates are made, perhaps with other numbers.

        Raises:
            ValueError: for numbers out of range.
        """
        procedure = make_procedure(
            self.procedure,
            self.n0 if n0 is None else n0,
            self.n if n is None else n,
            self.alpha if alpha is None else alpha,
            tolerance=self.tolerance,
            radii=self.radii,
        )
        return replace(procedure, allowance=allowance(self.noise, self.image_shape))

    @model_validator(mode="after")
    def _complete(self) -> Self:
        self.certificates()
        if len(self.class_names) not in (0, self.num_classes):
            raise ValueError(f"{len(self.class_names)} names for {self.num_classes} classes")
        return self


class Export(NamedTuple):
    """What was exported, and the probes to recognise the classifier by."""

    config: ExportConfig
    denoiser: Denoiser
    probes: Probes

    def check_classifier(self, classifier: nn.Module) -> None:
        """Make sure that `classifier`, in evaluation mode, is the one that was certified.

        It is asked about `probes.QUERIES` images.

        Raises:
            InputError: when its weights, or what it computes on the probe images, differ.
        """
        # Other modules may name the same weights differently, and cannot be compared.
        if isinstance(classifier, IdentifiedClassifier):
            found, expected = weights_hash(classifier), self.config.classifier_hash
            if found != expected:
                raise InputError(
                    f"the export was made for the classifier {expected[:12]}, not for "
                    f"{found[:12]}; pass the classifier that the run used"
                )
        self.probes.check(self.denoiser, classifier)


def read_export(folder: Path) -> Export:
    """The export in `folder`, all of whose parts belong together and are as they were written.

    Raises:
        InputError: naming the part that is missing, is damaged, or belongs to a different export;
            and for an export of an earlier version, which cannot be checked.
    """
    config = read_config(folder)
    data = {name: _read(folder, name) for name in (WEIGHTS, PROBES)}
    expected = {WEIGHTS: config.denoiser_hash, PROBES: config.probes_hash}
    wrong = [name for name, content in data.items() if sha256(content) != expected[name]]
    if len(wrong) == len(data):
        raise _foreign(folder, CONFIG)
    if wrong:
        raise _foreign(folder, wrong[0])
    try:
        denoiser, sigma = load_denoiser(data[WEIGHTS]), trained_sigma(data[WEIGHTS])
        probes = read_probes(data[PROBES])
    except (SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{folder} is damaged: {describe_error(error)}") from error
    described = (config.sigma, config.num_classes, config.image_shape)
    found = (sigma, probes.logits.shape[1], tuple(probes.images.shape[1:]))
    if described != found or denoiser.channels != config.image_shape[0]:
        raise InputError(
            f"{folder}: {CONFIG} is about sigma {described[0]}, {described[1]} classes and images "
            f"of shape {described[2]}, but the denoiser and probes are not; {_AGAIN}"
        )
    return Export(config, denoiser, probes)


def load_model(folder: Path, classifier: nn.Module | None) -> tuple[ExportConfig, nn.Sequential]:
    """The configuration of the export in `folder`, and its denoiser in front of its classifier.

    That is `classifier`, or the one in the export; it is checked, and put in evaluation mode.

    Raises:
        InputError: when a part is missing or damaged, or the classifier is not the one that was
            certified.
        TypeError: when the classifier is not a module.
    """
    if not isinstance(classifier, nn.Module | None):
        raise TypeError(f"classifier is {type(classifier).__name__}, not a torch.nn.Module")
    export = read_export(folder)
    found = stored_classifier(folder, export) if classifier is None else classifier
    try:
        export.check_classifier(found.eval())
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error
    return export.config, nn.Sequential(export.denoiser, found)


def stored_classifier(folder: Path, export: Export) -> BaseClassifier:
    """The classifier that `export`, which was read from `folder`, holds.

    Raises:
        InputError: when it holds none, naming what to pass instead, or it is damaged or belongs to
            a different export.
    """
    config = export.config
    if config.classifier_file_hash is None:
        raise InputError(
            f"{folder} does not hold its classifier; pass the one that the run used as "
            f"`classifier`{_SOURCES.get(config.classifier_kind, '').format(config.classifier_name)}"
        )
    data = _read(folder, CLASSIFIER)
    if sha256(data) != config.classifier_file_hash:
        raise _foreign(folder, CLASSIFIER)
    try:
        return load_packed(data, export.probes.pixels)
    except InputError as error:
        raise InputError(f"{folder}: {error}") from error


def read_config(folder: Path) -> ExportConfig:
    """The configuration of the export in `folder`, whose other files are not read.

    Raises:
        InputError: as `read_export`.
    """
    content = _read(folder, CONFIG)
    try:
        version = json.loads(content)["schema_version"]
        if version in range(1, SCHEMA_VERSION):
            raise InputError(
                f"{folder} is an export of an earlier version (schema {version}), which cannot be "
                "checked; export it again: continue its run with --resume"
            )
        config = ExportConfig.model_validate_json(content)
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{folder}: {CONFIG} is damaged; {_AGAIN}") from error
    if config.config_hash != config.expected_hash:
        raise InputError(f"{folder}: {CONFIG} was changed after it was written; {_AGAIN}")
    return config


def _read(folder: Path, name: str) -> bytes:
    try:
        return read_bytes(folder / name)
    except OSError as error:
        raise InputError(
            f"{folder} is not an exported smoothed classifier: {name} is missing"
        ) from error


def _foreign(folder: Path, name: str) -> InputError:
    return InputError(
        f"{folder}: {name} is damaged, or belongs to a different export than the other files; "
        f"{_AGAIN}"
    )


def sha256(data: bytes) -> str:
    """SHA-256 of `data`: hexadecimal, 64 digits."""
    return hashlib.sha256(data).hexdigest()
