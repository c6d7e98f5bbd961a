"""The deployable result: denoiser and classifier behind randomized smoothing."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from scipy.special import betainc
from torch import Tensor, nn

from trainables.acceleration.voting import prepared
from trainables.smoothing.certify import ABSTAIN, Certificate, Request, certifying
from trainables.smoothing.counting import forward_batch, total_votes
from trainables.smoothing.export import ExportConfig, load_model
from trainables.smoothing.images import as_batch
from trainables.smoothing.noise import BLOCK_SIZE, plan_blocks
from trainables.smoothing.procedures import Procedure
from trainables.smoothing.progress import Report, reporting
from trainables.worker import using_threads

if TYPE_CHECKING:
    from trainables.smoothing.images import Images

# Passes between two reports of the progress: the last one of each may be padded.
_PASSES = 8


class SmoothedClassifier:
    """A certified classifier of images [C, H, W] in [0, 1]; `model` is denoiser + classifier.

    Each call draws fresh noise from the next stream of `seed`, which is random itself unless it is
    given: a classifier whose noise is known in advance can be attacked. `threads` are those of a
    CPU. By default a pass runs on one, as it did when it was certified; with several, the last bits
    of logits differ, and small networks take more CPU time without being faster.

    Images are tensors, arrays or PIL images, one or several: `images.as_batch` says which.

    Not thread-safe.

        smoothed = SmoothedClassifier.load(folder).to("cuda")
        smoothed.predict(image)                 # a class, or -1
        smoothed.certify(Image.open("a.png")).radius
        smoothed(images)                        # int64 [B], for images [B, C, H, W]
        smoothed.certify(images, progress=True)
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
        weights = chain(self.model.parameters(), self.model.buffers())
        self._device = next((tensor.device for tensor in weights), torch.device("cpu"))

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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in their order; empty if they are not known."""
        return self.config.class_names

    def name(self, label: int) -> str:
        """What a class is called, or its number if it has no name; -1 "abstains".

        Raises:
            IndexError: for a class that there is not.
        """
        if label == ABSTAIN:
            return "abstains"
        if not 0 <= label < self.config.num_classes:
            raise IndexError(f"there are {self.config.num_classes} classes; got {label}")
        return self.class_names[label] if self.class_names else str(label)

    def to(self, device: torch.device | str) -> SmoothedClassifier:
        """Vote on `device` from now on; returns this classifier.

        Noise comes from a generator of that kind of device, so that the same seed gives different
        draws on a CPU and on a GPU.
        """
        self.model.to(device)
        self._device = torch.device(device)
        return self

    def __call__(self, images: Images) -> Any:
        """As `predict`, with the numbers of the export."""
        return self.predict(images)

    def predict(self, images: Images, *, n: int | None = None, alpha: float | None = None) -> Any:
        """Class of an image, or -1 when the votes do not decide it at level alpha.

        Returns:
            An int for one image, a tensor int64 [B] for several; `as_batch` says what images are.

        Source: Cohen et al. 2019, Section 3.2.1 (PREDICT).

        Raises:
            TypeError, ValueError: as `certify`.
        """
        batch = as_batch(images, self.config)
        n = self.config.n0 if n is None else n
        alpha = self.config.alpha if alpha is None else alpha
        if not (n > 0 and 0 < alpha < 1):
            raise ValueError(f"n must be positive and alpha in (0, 1); got {n} and {alpha}")
        classes = [self._predicted(image, n, alpha) for image in batch.images]
        return classes[0] if batch.single else torch.tensor(classes, dtype=torch.int64)

    def certify(
        self,
        images: Images,
        *,
        n0: int | None = None,
        n: int | None = None,
        alpha: float | None = None,
        progress: bool | Report = False,
    ) -> Any:
        """Class and certified radius of an image; the numbers are by default those of the export.

        So is the procedure. `progress` shows a bar or, if it is a function, calls it with the votes
        that are cast and how many there will be at most.

        Returns:
            A `Certificate` for one image, a list of them for several; `as_batch` says what images
            are. Alpha holds for each.

        Raises:
            TypeError: for what is not an image.
            ValueError: for an image with a different shape, outside [0, 1] or off the grid of
                quantised noise, or numbers out of range.
        """
        batch = as_batch(images, self.config)
        procedure = self.config.certificates(n0, n, alpha)
        each = procedure.n0 + procedure.n
        certificates = []
        with reporting(progress, each * len(batch.images)) as report:
            for number, image in enumerate(batch.images):
                before = number * each
                certificates.append(self._certified(image, procedure, before, report))
                if report is not None:
                    report(before + each)
        return certificates[0] if batch.single else certificates

    def _predicted(self, image: Tensor, n: int, alpha: float) -> int:
        self._calls += 1
        counts = self._votes(image, Request("predict", 0, n))
        first, second = sorted(counts, reverse=True)[:2]
        # P(a fair coin gives one side at least `first` times); twice that for either side. Not
        # scipy.stats, which takes half a second to import.
        tail = float(betainc(first, second + 1, 0.5)) if first else 1.0
        return ABSTAIN if 2 * tail > alpha else counts.index(first)

    def _certified(
        self,
        image: Tensor,
        procedure: Procedure,
        before: int,
        report: Callable[[int], None] | None,
    ) -> Certificate:
        """The certificate of an image [C, H, W]; `before` it, so many votes were cast at most."""
        asking = certifying(procedure, self.config.sigma)
        self._calls += 1
        request = next(asking)
        while True:
            counts = [0] * self.config.num_classes
            for part in _parts(request, image) if report is not None else (request,):
                fresh = self._votes(image, part)
                counts = [a + b for a, b in zip(counts, fresh, strict=True)]
                if report is not None:
                    report(before + part.stop + (0 if part.phase == "select" else procedure.n0))
            try:
                request = asking.send(counts)
            except StopIteration as done:
                found: Certificate = done.value
                return found

    def _votes(self, image: Tensor, request: Request) -> list[int]:
        phase, start, stop = request
        blocks = plan_blocks(stop, self.seed, self._calls, phase, start=start)
        with using_threads(self._threads):
            return total_votes(self.model, image.to(self._device), self.config.noise, blocks)


def _parts(request: Request, image: Tensor) -> Iterator[Request]:
    """The same draws in shorter requests, of a few passes each."""
    draws = max(1, _PASSES * forward_batch(image) // BLOCK_SIZE) * BLOCK_SIZE
    for start in range(request.start, request.stop, draws):
        yield request._replace(start=start, stop=min(start + draws, request.stop))
