"""The deployable result: denoiser and classifier behind randomized smoothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from trainables.errors import InputError
from trainables.models.checkpoint import weights_hash
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoiser_file import WEIGHTS, load_denoiser
from trainables.models.endpoint import HttpClassifier
from trainables.smoothing.certify import ABSTAIN, Certificate, certificate, total_votes
from trainables.smoothing.noise import plan_blocks

CONFIG = "config.json"


class ExportConfig(BaseModel, frozen=True, extra="forbid"):
    """What `config.json` of an export holds."""

    schema_version: Literal[2] = 2
    sigma: PositiveFloat
    n0: PositiveInt
    n: PositiveInt
    alpha: float = Field(gt=0, lt=1)
    num_classes: int = Field(ge=2)
    image_shape: tuple[PositiveInt, PositiveInt, PositiveInt]
    precision: Literal["float32"] = "float32"
    classifier_hash: str


class SmoothedClassifier:
    """A certified classifier of images [C, H, W] in [0, 1]; `model` is denoiser + classifier.

    Not thread-safe: each call draws fresh noise from the next stream of `seed`.
    """

    def __init__(self, model: nn.Module, config: ExportConfig, *, seed: int = 0) -> None:
        self.model, self.config = model.eval(), config
        self._seed, self._calls = seed, 0

    @classmethod
    def load(
        cls, folder: str | Path, classifier: nn.Module, *, seed: int = 0
    ) -> SmoothedClassifier:
        """Read an export and put its denoiser in front of `classifier`.

        `classifier` maps images [batch, C, H, W] in [0, 1] to logits, normalisation included; for
        the certificates to mean anything it must be the one the denoiser was trained for.

        Raises:
            InputError: when the export is incomplete or damaged, or made for another classifier.
        """
        folder = Path(folder)
        try:
            config = ExportConfig.model_validate_json((folder / CONFIG).read_text())
            data = (folder / WEIGHTS).read_bytes()
        except (OSError, ValueError) as error:
            raise InputError(
                f"{folder} holds no exported smoothed classifier: {CONFIG} or {WEIGHTS} is "
                "missing or damaged"
            ) from error
        # Other modules name their weights differently, so that only ours can be compared.
        if isinstance(classifier, BaseClassifier | HttpClassifier):
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
        counts = self._votes(image, n, "predict")
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

        Source: Cohen et al. 2019, Section 3.2.2 (CERTIFY).

        Raises:
            ValueError: for an image of another shape or outside [0, 1], or numbers out of range.
        """
        self._check(image)
        n0 = self.config.n0 if n0 is None else n0
        n = self.config.n if n is None else n
        alpha = self.config.alpha if alpha is None else alpha
        if not (n0 > 0 and n > 0 and 0 < alpha < 1):
            raise ValueError(
                f"n0 and n must be positive and alpha in (0, 1); got {n0}, {n} and {alpha}"
            )
        return certificate(
            self._votes(image, n0, "select"),
            self._votes(image, n, "estimate"),
            n0=n0,
            n=n,
            sigma=self.config.sigma,
            alpha=alpha,
        )

    def _votes(self, image: Tensor, votes: int, phase: str) -> list[int]:
        self._calls += 1
        blocks = plan_blocks(votes, self._seed, self._calls, phase)
        return total_votes(self.model, image, self.config.sigma, blocks)

    def _check(self, image: Tensor) -> None:
        if tuple(image.shape) != self.config.image_shape:
            raise ValueError(
                f"the image has shape {tuple(image.shape)}, but {self.config.image_shape} is "
                "certified"
            )
        if not (torch.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
            raise ValueError("the image has pixels outside [0, 1]; divide 8-bit pixels by 255")


def export_config(classifier: nn.Module, image: Tensor, num_classes: int, **numbers: float) -> str:
    """The text of `config.json` for a denoiser in front of `classifier`.

    `image` [C, H, W] is an example; `numbers` are sigma, n0, n and alpha.
    """
    config = ExportConfig.model_validate(
        {
            "num_classes": num_classes,
            "image_shape": tuple(image.shape),
            "classifier_hash": weights_hash(classifier),
            **numbers,
        }
    )
    return json.dumps(config.model_dump(), indent=2) + "\n"
