"""How many operations a training takes, predicted from its hyperparameters alone."""

from __future__ import annotations

from functools import cache, cached_property

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from trainables.decrop.config import DecropConfig
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DENOISERS, build_denoiser

# A gradient takes as many operations as a forward pass, for the weights and for the input each.
TRAINED, FROZEN, FORWARD = 3, 2, 1


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
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image)
    return float(counter.get_total_flops())


@cache
def _of_denoiser(
    architecture: str, sizes: tuple[tuple[str, int], ...], shape: tuple[int, ...]
) -> float:
    with torch.device("meta"):
        denoiser = build_denoiser(architecture, shape[1], dict(sizes)).eval()
        return _counted(denoiser, torch.empty(shape))
