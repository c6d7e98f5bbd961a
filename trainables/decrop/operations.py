"""How many operations a training takes, predicted from its hyperparameters alone."""

from __future__ import annotations

from functools import cache, cached_property

import torch
from torch import Tensor, nn

from trainables.decrop.config import DecropConfig
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DENOISERS, build_denoiser
from trainables.torch_internals import operation_counter
from trainables.worker import using_threads

# A gradient takes as many operations as a forward pass, for the weights and for the input each.
TRAINED, FROZEN, FORWARD = 3, 2, 1
# The most pixels of a side on which a denoiser is run to count its operations. Without pixels, on
# the device "meta", PyTorch would import its compiler for that, which takes longer.
PART = 16


class Operations:
    """Floating-point operations of trainings on `images` [n, C, H, W] against a classifier.

    They are those of convolutions and matrix products, which take most of the time. They do not
    depend on the machine.

        operations = Operations(classifier, images)
        operations.of_epoch(DecropConfig())
    """

    def __init__(self, classifier: BaseClassifier, images: Tensor) -> None:
        self._network, self._image, self._images = classifier, images[:1], len(images)

    def of_epoch(self, config: DecropConfig) -> float:
        """Operations of one pass over the images, all views of them included."""
        views = 3 if config.uses_generated_samples else 1
        trained = TRAINED * self._denoiser(config) + FROZEN * self._classifier
        return self._images * (views * trained + FORWARD * self._classifier)

    def of_votes(self, config: DecropConfig, votes: int) -> float:
        """Operations of so many noisy votes."""
        return votes * (self._denoiser(config) + self._classifier)

    def _denoiser(self, config: DecropConfig) -> float:
        sizes = tuple((name, getattr(config, name)) for name in DENOISERS[config.denoiser].sizes)
        return _of_denoiser(config.denoiser, sizes, tuple(self._image.shape))

    @cached_property
    def _classifier(self) -> float:
        return _counted(self._network, self._image)


def _counted(network: nn.Module, image: Tensor) -> float:
    counter = operation_counter()
    # On a busy machine several threads take ten times as long for so little.
    with counter, torch.no_grad(), using_threads(1):
        network(image)
    return float(counter.get_total_flops())


@cache
def _of_denoiser(
    architecture: str, sizes: tuple[tuple[str, int], ...], shape: tuple[int, ...]
) -> float:
    """They are proportional to the pixels, so those of a large image follow from a part of it."""
    _, channels, height, width = shape
    part = torch.zeros(1, channels, min(height, PART), min(width, PART))
    with torch.random.fork_rng(devices=[]):
        denoiser = build_denoiser(architecture, channels, dict(sizes)).eval()
    return _counted(denoiser, part) * (height * width / part[0, 0].numel())
