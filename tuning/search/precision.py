"""The precision in which a setting trains, decided once by a few steps."""

from __future__ import annotations

from torch import Tensor

from search_spaces import SearchSpace
from trainables.acceleration.voting import Precision
from trainables.decrop.config import DecropConfig
from trainables.decrop.precision import choose_training_precision
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DENOISERS
from tuning.cluster.context import Context
from tuning.cluster.precision import decide
from tuning.cluster.resources import Resources
from tuning.setting.setting import Setting


async def decide_training_precision(
    setting: Setting, classifier: BaseClassifier, context: Context, decided: Precision | None
) -> Precision:
    """As `decide`: what `choose_training_precision` finds for the space's largest training."""
    training = largest_training(setting.space)
    images = setting.shots.train_images[: training.batch_size]
    return await decide(context, decided, _measure, classifier, training, images, here=True)


def largest_training(space: SearchSpace) -> DecropConfig:
    """The published point with the largest denoiser and the largest batches of the space."""
    named = DecropConfig.model_validate(space.named)
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
