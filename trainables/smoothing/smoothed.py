"""The deployable result: denoiser and classifier behind randomized smoothing."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, Self

import torch
from pydantic import (
    BaseModel,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from torch import Tensor, nn

from trainables.acceleration.voting import Precision, prepared
from trainables.choices import ProcedureName
from trainables.errors import InputError
from trainables.models.classifiers import IdentifiedClassifier
from trainables.smoothing.certify import ABSTAIN, Certificate, Request, certifying
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.procedures import Procedure, make_procedure
from trainables.smoothing.quantised import allowance, on_grid
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import WEIGHTS, load_denoiser

CONFIG = "config.json"
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


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What `config.json` of an export holds.

    The noise is rounded to multiples of 1 / `pixel_steps`; 0 stands for Gaussian noise. `origin`
    says where the hyperparameters of the denoiser come from, "file" if that is not known; `trial`
    is the number of the trial.
    """

    schema_version: Literal[4, 5] = 5
    origin: Origin = "file"
    trial: NonNegativeInt | None = None
    sigma: PositiveFloat
    pixel_steps: NonNegativeInt = 0
    n0: PositiveInt
    n: PositiveInt
    alpha: float = Field(gt=0, lt=1)
    procedure: ProcedureName = "tolerance"
    tolerance: PositiveFloat = 0.02
    radii: tuple[NonNegativeFloat, ...] = ()
    num_classes: int = Field(ge=2)
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    precision: Precision = "float32"
    classifier_hash: str

    @property
    def text(self) -> str:
        """The text of `config.json`."""
        return json.dumps(self.model_dump(), indent=2) + "\n"

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
        return self


def read_export(folder: Path) -> tuple[ExportConfig, bytes]:
    """The configuration of an export, and the denoiser's weights.

    Raises:
        InputError: when the export is incomplete or damaged.
    """
    try:
        config = ExportConfig.model_validate_json((folder / CONFIG).read_text())
        return config, (folder / WEIGHTS).read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(
            f"{folder} is not an exported smoothed classifier: {CONFIG} or {WEIGHTS} is missing or "
            "damaged"
        ) from error


class SmoothedClassifier:
    """A certified classifier of images [C, H, W] in [0, 1]; `model` is denoiser + classifier.

    Not thread-safe: each call draws fresh noise from the next stream of `seed`.

        smoothed = SmoothedClassifier.load(folder, classifier)
        smoothed.predict(image)   # a class, or -1
        smoothed.certify(image).radius
    """

    def __init__(self, model: nn.Module, config: ExportConfig, *, seed: int = 0) -> None:
        # The copy that was certified, in the same precision.
        self.model = prepared(model.eval(), config.image_shape, config.precision)
        self.config = config
        self._seed, self._calls = seed, 0

    @classmethod
    def load(
        cls, folder: str | Path, classifier: nn.Module, *, seed: int = 0
    ) -> SmoothedClassifier:
        """Read an export and put its denoiser in front of `classifier`.

        `classifier` maps images [batch, C, H, W] in [0, 1] to logits, normalisation included; for
        the certificates to mean anything it must be the one the denoiser was trained for.

        Raises:
            InputError: when the export is incomplete or damaged, or made for a different
                classifier.
        """
        folder = Path(folder)
        config, data = read_export(folder)
        # Other modules may name the same weights differently, and cannot be compared.
        if isinstance(classifier, IdentifiedClassifier):
            found = weights_hash(classifier)
            if found != config.classifier_hash:
                raise InputError(
                    f"{folder} was made for the classifier {config.classifier_hash[:12]}, not for "
                    f"{found[:12]}; pass the classifier that the run used"
                )
        denoiser = load_denoiser(data)
        if denoiser.channels != config.image_shape[0]:
            raise InputError(
                f"{folder}: the denoiser takes {denoiser.channels} channels, but {CONFIG} names "
                f"images of shape {config.image_shape}"
            )
        return cls(nn.Sequential(denoiser, classifier), config, seed=seed)

    def predict(self, image: Tensor, *, n: int | None = None, alpha: float | None = None) -> int:
        """Class of `image` [C, H, W], or -1 when the votes do not decide it at level alpha.

        Source: Cohen et al. 2019, Section 3.2.1 (PREDICT).
        """
        from scipy.stats import binomtest

        self._check(image)
        n = self.config.n0 if n is None else n
        alpha = self.config.alpha if alpha is None else alpha
        if not (n > 0 and 0 < alpha < 1):
            raise ValueError(f"n must be positive and alpha in (0, 1); got {n} and {alpha}")
        self._calls += 1
        counts = self._votes(image, Request("predict", 0, n))
        first, second = sorted(counts, reverse=True)[:2]
        undecided = first + second == 0 or (binomtest(first, first + second, 0.5).pvalue > alpha)
        return ABSTAIN if undecided else counts.index(first)

    def certify(
        self,
        image: Tensor,
        *,
        n0: int | None = None,
        n: int | None = None,
        alpha: float | None = None,
    ) -> Certificate:
        """Class and certified radius of `image` [C, H, W]; the defaults are those of the export.

        The procedure is the export's as well.

        Raises:
            ValueError: for an image with a different shape, outside [0, 1] or off the grid of
                quantised noise, or numbers out of range.
        """
        self._check(image)
        asking = certifying(self.config.certificates(n0, n, alpha), self.config.sigma)
        self._calls += 1
        request = next(asking)
        while True:
            try:
                request = asking.send(self._votes(image, request))
            except StopIteration as done:
                found: Certificate = done.value
                return found

    def _votes(self, image: Tensor, request: Request) -> list[int]:
        phase, start, stop = request
        blocks = plan_blocks(stop, self._seed, self._calls, phase, start=start)
        return total_votes(self.model, image, self.config.noise, blocks)

    def _check(self, image: Tensor) -> None:
        if tuple(image.shape) != self.config.image_shape:
            raise ValueError(
                f"the image has shape {tuple(image.shape)}, but {self.config.image_shape} is "
                "certified"
            )
        if not (torch.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise ValueError("the image has pixels outside [0, 1]; divide 8-bit pixels by 255")
        steps = self.config.pixel_steps
        if steps and not on_grid(image, steps):
            raise ValueError(
                f"the image has pixels that are not multiples of 1/{steps}; with its quantised "
                "noise, this classifier is certified only for those; round them"
            )


def export_config(
    classifier: nn.Module,
    image: Tensor,
    num_classes: int,
    noise: Noise,
    procedure: Procedure,
    precision: Precision,
) -> ExportConfig:
    """The configuration of an export of a denoiser in front of `classifier`.

    `image` [C, H, W] is an example.
    """
    # The allowance follows from the noise.
    numbers = {k: v for k, v in asdict(procedure).items() if k != "allowance"}
    return ExportConfig.model_validate(
        {
            "num_classes": num_classes,
            "image_shape": tuple(image.shape),
            "classifier_hash": weights_hash(classifier),
            **noise._asdict(),
            "procedure": procedure.name,
            "precision": precision,
            **numbers,
        }
    )
