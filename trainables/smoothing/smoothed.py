"""The deployable result: denoiser and classifier behind randomized smoothing."""

from __future__ import annotations

import operator
import secrets
from pathlib import Path

import torch
from scipy.special import betainc
from torch import Tensor, nn

from trainables.acceleration.voting import prepared
from trainables.smoothing.certify import ABSTAIN, Certificate, Request, certifying
from trainables.smoothing.counting import total_votes
from trainables.smoothing.export import ExportConfig, load_model
from trainables.smoothing.noise import plan_blocks
from trainables.smoothing.quantised import on_grid
from trainables.worker import using_threads


class SmoothedClassifier:
    """A certified classifier of images [C, H, W] in [0, 1]; `model` is denoiser + classifier.

    Each call draws fresh noise from the next stream of `seed`, which is random itself unless it is
    given: a classifier whose noise is known in advance can be attacked. `threads` are those of a
    CPU. By default a pass runs on one, as it did when it was certified; with several, the last bits
    of logits differ, and small networks take more CPU time without being faster.

    Not thread-safe.

        smoothed = SmoothedClassifier.load(folder)
        smoothed.predict(image)   # a class, or -1
        smoothed.certify(image).radius
    """

    def __init__(
        self, model: nn.Module, config: ExportConfig, *, seed: int | None = None, threads: int = 1
    ) -> None:
        if not (isinstance(threads, int) and threads > 0):
            raise ValueError(f"threads must be a positive whole number; got {threads}")
        # The copy that was certified, in the same precision.
        with using_threads(threads):
            self.model = prepared(model.eval(), config.image_shape, config.precision)
        self.config = config
        self.seed = secrets.randbits(63) if seed is None else operator.index(seed)
        self._threads, self._calls = threads, 0

    @classmethod
    def load(
        cls,
        folder: str | Path,
        classifier: nn.Module | None = None,
        *,
        seed: int | None = None,
        threads: int = 1,
    ) -> SmoothedClassifier:
        """Read an export: its denoiser in front of its classifier, or of `classifier`.

        `classifier` is needed only for an export that does not hold its own. It maps images
        [batch, C, H, W] in [0, 1] to logits, normalisation included. In either case it must be the
        one that was certified: its weights are compared where they can be, and its answers about 8
        images in any case. It is put in evaluation mode.

        Raises:
            InputError: when a part of the export is missing, is damaged or belongs to a different
                export, or the classifier is a different one, or is not in the export.
            TypeError: when the classifier is not a module.
        """
        with using_threads(threads):
            config, model = load_model(Path(folder), classifier)
        return cls(model, config, seed=seed, threads=threads)

    def predict(self, image: Tensor, *, n: int | None = None, alpha: float | None = None) -> int:
        """Class of `image` [C, H, W], or -1 when the votes do not decide it at level alpha.

        Source: Cohen et al. 2019, Section 3.2.1 (PREDICT).
        """
        self._check(image)
        n = self.config.n0 if n is None else n
        alpha = self.config.alpha if alpha is None else alpha
        if not (n > 0 and 0 < alpha < 1):
            raise ValueError(f"n must be positive and alpha in (0, 1); got {n} and {alpha}")
        self._calls += 1
        counts = self._votes(image, Request("predict", 0, n))
        first, second = sorted(counts, reverse=True)[:2]
        # P(a fair coin gives one side at least `first` times); twice that for either side. Not
        # scipy.stats, which takes half a second to import.
        tail = float(betainc(first, second + 1, 0.5)) if first else 1.0
        return ABSTAIN if 2 * tail > alpha else counts.index(first)

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
        blocks = plan_blocks(stop, self.seed, self._calls, phase, start=start)
        with using_threads(self._threads):
            return total_votes(self.model, image, self.config.noise, blocks)

    def _check(self, image: Tensor) -> None:
        if not (isinstance(image, Tensor) and image.is_floating_point()):
            raise TypeError(
                f"the image is {getattr(image, 'dtype', type(image).__name__)}, not a tensor of "
                "floats in [0, 1]; convert it, for example with torch.as_tensor(image) / 255"
            )
        if tuple(image.shape) != self.config.image_shape:
            raise ValueError(
                f"the image has shape {tuple(image.shape)}, but {self.config.image_shape} is "
                "certified"
            )
        if not torch.isfinite(image).all():
            raise ValueError("the image has pixels that are NaN or infinite")
        if not (image.min() >= 0 and image.max() <= 1):
            raise ValueError("the image has pixels outside [0, 1]; divide 8-bit pixels by 255")
        steps = self.config.pixel_steps
        if steps and not on_grid(image, steps):
            raise ValueError(
                f"the image has pixels that are not multiples of 1/{steps}; with its quantised "
                "noise, this classifier is certified only for those; round them"
            )
