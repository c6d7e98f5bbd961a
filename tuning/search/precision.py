"""The precision in which a setting trains, decided once by timing a few steps on a worker."""

from __future__ import annotations

from torch import Tensor

from search_spaces import SearchSpace
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.precision import choose_training_precision
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DENOISERS
from tuning.cluster.context import Context
from tuning.cluster.measuring import measured
from tuning.cluster.resources import Resources
from tuning.setting.setting import Setting


def decide_training_precision(
    setting: Setting, classifier: BaseClassifier, context: Context, decided: Precision | None
) -> Precision:
    """The precision from --precision, or the one `decided` before, or the fastest.

    It is float32 where it cannot be measured.

    Measured are steps through `classifier` of the largest denoiser in the setting's space.
    """
    config = context.config
    if config.precision != "auto":
        return config.precision
    if decided is not None:
        return decided
    training = largest_training(setting.space)
    images = setting.shots.train_images[: training.batch_size]
    found = measured(_measure, classifier, training, images, resources=context.resources)
    return found or "float32"


def largest_training(space: SearchSpace) -> DecropConfig:
    """The published point with the largest denoiser and the largest batches of the space."""
    named = DecropConfig.model_validate({**space.published, **space.fixed})
    sizes = (*DENOISERS[named.denoiser].sizes, "batch_size")
    largest = {
        name: max(space.parameters[name].corners()) for name in sizes if name in space.parameters
    }
    return DecropConfig.model_validate(named.model_dump() | largest)


def _measure(
    classifier: BaseClassifier, training: DecropConfig, images: Tensor, resources: Resources
) -> Precision:
    device = resources.prepare_worker()
    return choose_training_precision(classifier.to(device), training, images.to(device))
