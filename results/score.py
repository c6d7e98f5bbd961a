"""The score of certificates: certified accuracy with wrong certificates counted against it.

Like an examination with negative marking: at a radius, an image that is certified right counts 1,
one that is certified wrong -1 / (K - 1) for K classes, and an abstention 0. Classes weigh equally.
So an answer that does not depend on the image, such as always the same, has an expectation of 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from results.curves import Bools, Estimate, Floats, mean_of_images
from results.schema import Row

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Certificates of one variant as arrays [images], in order of the image index.

    `predicted` is the class, or -1 for an abstention; `radius` is L2 in pixel units, and `joint`
    the radius with which all certificates hold at once, -1 for an abstention.

        answers = Answers.of(rows)
        answers.right(0.25).mean()   # certified accuracy at 0.25
        answers.scores([0.0, 0.25]).mean()
    """

    label: Integers
    predicted: Integers
    radius: Floats
    joint: Floats

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Answers":
        """The answers in rows of `schema.CERTIFICATES`."""
        ordered = sorted(rows, key=lambda row: row["image_index"])
        return cls(
            np.array([row["label"] for row in ordered], dtype=np.int64),
            np.array([row["predicted"] for row in ordered], dtype=np.int64),
            np.array([row["radius"] for row in ordered], dtype=np.float64),
            np.array([_or_abstain(row["joint_radius"]) for row in ordered], dtype=np.float64),
        )

    def right(self, at: float) -> Bools:
        """Which images get their true class with a radius of at least `at`."""
        right: Bools = (self.predicted == self.label) & (self.radius >= at)
        return right

    def wrong(self, at: float) -> Bools:
        """Which images get a wrong class with a radius of at least `at`."""
        other = (self.predicted >= 0) & (self.predicted != self.label)
        wrong: Bools = other & (self.radius >= at)
        return wrong

    def jointly_right(self, at: float) -> Bools:
        """Which images get their true class with a joint radius of at least `at`."""
        right: Bools = (self.predicted == self.label) & (self.joint >= at)
        return right

    def scores(self, radii: Sequence[float]) -> Floats:
        """What each image says about the score, averaged over `radii`; their mean is the score.

        Images of a rare class weigh more, such that classes weigh equally: a mark is as far from
        the score as its weight says. So unequal weights do not look like differences between
        images (the linearised ratio estimator: Särndal et al. 1992, Section 5.6). If all images are
        of one class, knowing it cannot be told from guessing it, and every score is 0.

        Raises:
            ValueError: without radii.
        """
        if not radii:
            raise ValueError("a score needs at least one radius")
        classes, of_image, images = np.unique(self.label, return_inverse=True, return_counts=True)
        if len(classes) < 2:
            return np.zeros(len(self.label))
        weights = len(self.label) / (len(classes) * images[of_image])
        marks = [self.right(at) - self.wrong(at) / (len(classes) - 1) for at in radii]
        mark = np.mean(marks, axis=0)
        score = np.mean(weights * mark)
        scores: Floats = score + weights * (mark - score)
        return scores

    def score(self, radii: Sequence[float]) -> Estimate:
        """The score and its interval; raises as `scores`."""
        return mean_of_images(self.scores(radii), self.lowest_mark, 1.0)

    @property
    def lowest_mark(self) -> float:
        """The mark of an image that is certified wrong."""
        return -1 / max(1, len(np.unique(self.label)) - 1)

    def most_frequent(self) -> tuple[int | None, float, float]:
        """The class answered most often, the share of images with that answer, and of that class.

        Abstentions are no answers; the class is None if there are only those.
        """
        answered = self.predicted[self.predicted >= 0]
        if not answered.size:
            return None, 0.0, 0.0
        most = int(np.bincount(answered).argmax())
        return most, float(np.mean(self.predicted == most)), float(np.mean(self.label == most))


def _or_abstain(joint_radius: float | None) -> float:
    return -1.0 if joint_radius is None else joint_radius
