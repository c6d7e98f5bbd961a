"""Whether a classifier and a data set belong together: how often it is right about the shots."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from results.curves import Estimate, share_of
from trainables.black_box.endpoint import HttpClassifier
from trainables.data.class_order import NATURAL, natural_order
from trainables.data.splits import Shots
from trainables.models.architectures import IMAGENET
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.assumptions import logits_of, spread
from trainables.worker import using_threads
from tuning.monitoring.progress import Reporter

# At most so many shots are classified: enough for an interval of 7 points. An endpoint may charge
# for every one.
MOST_SHOTS, MOST_QUERIES, BATCH = 1000, 100, 50
# A classifier that is right more often than this needs no advice.
GOOD = 0.9
# Normalisations that people mix up, as mean and std.
NORMALISATIONS = {
    "pixels from 0 to 255": ((0.0,), (1 / 255,)),
    "pixels from 0 to 1": ((0.0,), (1.0,)),
    "pixels from -1 to 1": ((0.5,), (0.5,)),
    "ImageNet's normalisation": IMAGENET,
}
# Class names that are listed in a message; more would not fit into a command.
_LISTED = 20
Integers = NDArray[np.int64]


class Fit(NamedTuple):
    """How many of `images` shots of a data set with `classes` classes are classified right.

    `advice` says what would fit far better, as sentences.
    """

    right: int
    images: int
    classes: int
    advice: tuple[str, ...] = ()

    @property
    def accuracy(self) -> Estimate:
        """The clean accuracy, with its 95 % interval."""
        return share_of(self.right, self.images)

    @property
    def guesses(self) -> bool:
        """Whether it is not shown to be better than guessing."""
        return self.accuracy.low <= 1 / self.classes

    @property
    def sentence(self) -> str:
        """The accuracy in words."""
        found = self.accuracy
        return (
            f"the classifier is right on {found.value:.1%} of {self.images} clean shots, "
            f"[{found.low:.1%}, {found.high:.1%}]"
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know before anything is trained."""
        if not self.guesses:
            return self.advice
        chance = (
            f"that is not better than guessing ({1 / self.classes:.1%}); check that the "
            "classifier, its normalisation (--mean, --std) and the order of its classes "
            "(--class-order) belong to these images"
        )
        return (chance, *self.advice)

    @property
    def facts(self) -> dict[str, Any]:
        """What the manifest says."""
        found = self.accuracy
        return {
            "right": self.right,
            "images": self.images,
            "accuracy": round(found.value, 6),
            "low": round(found.low, 6),
            "high": round(found.high, 6),
        }


def fit_of(classifier: nn.Module, shots: Shots, classes: Sequence[str]) -> Fit:
    """How well `classifier` fits the `shots`, whose labels are positions in `classes`.

    Raises:
        InputError: when the classifier fails.
    """
    images, labels, _ = shots.joined()
    most = MOST_QUERIES if isinstance(classifier, HttpClassifier) else MOST_SHOTS
    # Sorted by class, so that all classes are among those that are chosen.
    chosen = torch.argsort(labels, stable=True)[spread(len(labels), most)]
    images, labels = images[chosen], labels[chosen]
    answered, right = _predicted(classifier, images), labels.numpy()
    fit = Fit(int(np.sum(answered == right)), len(right), len(classes))
    if fit.accuracy.value > GOOD:
        return fit
    advice = [*_orders(answered, right, classes, fit)]
    if isinstance(classifier, BaseClassifier):
        advice += _normalisations(classifier, images, labels, len(classes))
    return fit._replace(advice=tuple(advice))


def report_fit(setting: str, fit: Fit, reporter: Reporter) -> None:
    """Say how well the classifier of a setting fits, with what the user should know of it."""
    reporter.say(f"{setting}: {fit.sentence}")
    for warning in fit.warnings:
        reporter.warn(f"{setting}: {warning}")


def _predicted(classifier: nn.Module, images: Tensor) -> Integers:
    # With more threads, small networks wait for each other on a busy machine.
    with using_threads(1):
        answers = [logits_of(classifier, p, f"{len(p)} at a time") for p in images.split(BATCH)]
    return torch.cat(answers).argmax(dim=1).cpu().numpy()


def _orders(answered: Integers, right: Integers, classes: Sequence[str], fit: Fit) -> Iterator[str]:
    """What to say if the classifier numbers the classes in a different order."""
    numbered = np.array(natural_order(classes))
    hits = int(np.sum(numbered[answered] == right))
    if _better(hits, fit):
        yield (
            f"with the classes in the order of their numbers it would be right on {hits} of "
            f"{fit.images}; pass --class-order {NATURAL}"
        )
        return
    # Found on one half and judged on the other: with few shots, some order always fits well.
    halves = [np.arange(len(right)) % 2 == half for half in (0, 1)]
    hits = 0
    for half in halves:
        order = _best_order(answered[~half], right[~half], fit.classes)
        hits += int(np.sum(order[answered[half]] == right[half]))
    if _better(hits, fit):
        best = [classes[index] for index in _best_order(answered, right, fit.classes)]
        named = ",".join(best) if len(best) <= _LISTED else "FILE.txt, with one name in a line"
        yield (
            f"its classes seem to be in a different order, in which it would be right on about "
            f"{hits} of {fit.images}; if that is so, pass --class-order {named}"
        )


def _best_order(answered: Integers, right: Integers, classes: int) -> Integers:
    """Which class each output stands for, if all outputs fit the labels as well as possible."""
    # Imported here, because few classifiers need it, and it delays the first trial.
    from scipy.optimize import linear_sum_assignment

    counts = np.zeros((classes, classes))
    np.add.at(counts, (answered, right), 1)
    # What does not matter stays as it is.
    counts += 0.01 * np.eye(classes)
    _, order = linear_sum_assignment(counts, maximize=True)
    return np.asarray(order)


def _normalisations(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, classes: int
) -> Iterator[str]:
    """What to say if the classifier was trained on images with a different normalisation."""
    chosen = spread(len(images), MOST_QUERIES)
    images, right = images[chosen], labels[chosen].numpy()

    def hits(candidate: nn.Module) -> int:
        return int(np.sum(_predicted(candidate, images) == right))

    found = {
        described: hits(BaseClassifier(classifier.network, mean, std))
        for described, (mean, std) in NORMALISATIONS.items()
        if len(mean) in (1, images.shape[1])
    }
    best = max(found, key=lambda described: found[described])
    if _better(found[best], Fit(hits(classifier), len(right), classes)):
        flags = [",".join(f"{value:.6g}" for value in values) for values in NORMALISATIONS[best]]
        yield (
            f"with {best} it would be right on {found[best]} of {len(right)}; pass --mean "
            f"{flags[0]} --std {flags[1]}"
        )


def _better(hits: int, fit: Fit) -> bool:
    """Whether so many hits on the same images are far more than those of `fit`, and than chance."""
    better = fit._replace(right=hits)
    return better.accuracy.low > fit.accuracy.high and not better.guesses
