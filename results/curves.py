"""Statistics of certificates: certified accuracy, average certified radius, differences.

Intervals are at 95 % and cover the choice of test images, not the Monte Carlo votes: for those each
certificate has its own alpha.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri, stdtrit

from results.schema import Row

_CONFIDENCE = 0.95
# Images added at either end of the possible values if all images are equal. Differences can have
# twice the range of values, and so a quarter of it.
_ADDED = 0.5
# Values are equal if they are to so many decimals.
_DIGITS = 9

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval, in the value's own unit."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """Certified accuracy against radius; four float arrays of one shape, [points].

    `radii` is L2 in pixel units on the [0, 1] scale and increases; `accuracy` and its 95 % Wilson
    interval `low`, `high` are in [0, 1]. Between two radii, the accuracy at the larger one holds.
    """

    radii: Floats
    accuracy: Floats
    low: Floats
    high: Floats


def outcomes(rows: Sequence[Row]) -> tuple[Bools, Floats]:
    """Whether each certificate is correct (bool [images]) and its radius (float [images]).

    Both are in order of the image index.

    `rows` are rows of `schema.CERTIFICATES`, of one variant. An abstention is not correct.
    """
    ordered = sorted(rows, key=lambda row: row["image_index"])
    correct = np.array([row["predicted"] == row["label"] for row in ordered], dtype=np.bool_)
    return correct, np.array([row["radius"] for row in ordered], dtype=np.float64)


def certified_accuracy(correct: ArrayLike, radius: ArrayLike, at: float) -> Estimate:
    """Share of images classified correctly with a radius of at least `at`, in [0, 1].

    `correct` is bool and `radius` float, both [images]; an abstention is an image that is not
    correct. The interval is Wilson's. Source: Cohen et al. 2019, Section 4; Wilson 1927.

    Raises:
        ValueError: unless the shapes agree, there is an image, and every radius and `at` is
            finite and not negative.
    """
    hits, radii = _checked(correct, radius)
    if not (np.isfinite(at) and at >= 0):
        raise ValueError(f"at must be finite and not negative, got {at}")
    return share_of(int(np.count_nonzero(hits & (radii >= at))), len(hits))


def accuracy_curve(correct: ArrayLike, radius: ArrayLike, radii: ArrayLike | None = None) -> Curve:
    """Certified accuracy at each of `radii` (increasing, float [points]).

    Without `radii`, at 0, at every radius where the accuracy changes, and just above the last.
    Raises as `certified_accuracy`.
    """
    hits, values = _checked(correct, radius)
    if radii is None:
        steps = np.unique(np.concatenate(([0.0], values[hits])))
        points = np.append(steps, np.nextafter(steps[-1], np.inf))
    else:
        points = np.asarray(radii, dtype=np.float64)
    if not (np.isfinite(points).all() and (points >= 0).all()):
        raise ValueError("every radius of a curve must be finite and not negative")
    certified = np.sort(values[hits])
    counts = len(certified) - np.searchsorted(certified, points, side="left")
    return Curve(points, counts / len(hits), *_wilson(counts, len(hits)))


def average_certified_radius(
    correct: ArrayLike, radius: ArrayLike, most: float | None = None
) -> Estimate:
    """ACR: the mean over all images of the radius where correct, 0 elsewhere; pixel units.

    `most` is the largest radius that the votes could prove, by default the largest there is.
    The interval is that of `mean_of_images`.
    Raises as `certified_accuracy`. Source: Zhai et al. 2020 (MACER).
    """
    hits, radii = _checked(correct, radius)
    return mean_of_images(hits * radii, 0.0, max(most or 0.0, float(radii.max())))


def largest_radius(rows: Sequence[Row]) -> float:
    """The largest radius that equal votes could prove; pixel units.

    `rows` are rows of `schema.CERTIFICATES`. None of their radii is larger.

    Raises:
        ValueError: unless each has votes, and an alpha in (0, 1).
    """
    if not all(row["n"] > 0 and 0 < row["alpha"] < 1 for row in rows):
        raise ValueError("every certificate must have n > 0 and alpha in (0, 1)")
    unanimous = [row["sigma"] * ndtri(row["alpha"] ** (1 / row["n"])) for row in rows]
    return float(max([0.0, *unanimous, *(row["radius"] for row in rows)]))


def paired_difference(a: ArrayLike, b: ArrayLike, span: float = 1.0) -> Estimate:
    """Mean of a - b over the same images: how much variant a gains over variant b.

    `a` and `b` are float or bool [images] in the same order: for the ACR, the radius where correct
    and 0 elsewhere; for certified accuracy, whether an image is certified. On no image could they
    differ by more than the `span`.
    The interval is that of `mean_of_images`, of the differences per image.

    Raises:
        ValueError: unless both have the same images, at least one.
    """
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape != right.shape or left.ndim != 1 or not left.size:
        raise ValueError(f"cannot pair images of shapes {left.shape} and {right.shape}")
    return mean_of_images(left - right, -span, span, _ADDED / 4)


def _checked(correct: ArrayLike, radius: ArrayLike) -> tuple[Bools, Floats]:
    hits, radii = np.asarray(correct, dtype=np.bool_), np.asarray(radius, dtype=np.float64)
    if hits.shape != radii.shape or hits.ndim != 1 or not hits.size:
        raise ValueError(f"correct and radius must be [images], got {hits.shape}, {radii.shape}")
    if not (np.isfinite(radii).all() and (radii >= 0).all()):
        raise ValueError("every radius must be finite and not negative")
    return hits, radii


def share_of(hits: int, images: int) -> Estimate:
    """The share `hits` of `images`, with Wilson's interval (Wilson 1927)."""
    low, high = _wilson(np.array(hits), images)
    return Estimate(hits / images, float(low), float(high))


def _wilson(hits: NDArray[np.int64], images: int) -> tuple[Floats, Floats]:
    """Both ends of Wilson's interval: at once, because a curve has many shares."""
    # SciPy's own takes two milliseconds for each.
    quantile = ndtri((1 + _CONFIDENCE) / 2)
    share, extra = hits / images, quantile**2 / images
    centre = (share + extra / 2) / (1 + extra)
    half = quantile * np.sqrt(share * (1 - share) / images + extra / (4 * images)) / (1 + extra)
    # Exact at both ends, where rounding would leave a little.
    low: Floats = np.where(hits == 0, 0.0, centre - half)
    high: Floats = np.where(hits == images, 1.0, centre + half)
    return low, high


def mean_of_images(values: Floats, least: float, most: float, added: float = _ADDED) -> Estimate:
    """The mean of `values`, float [images], each of which could be from `least` to `most`.

    The interval is Student's for the values and a part of an image at either end of that range:
    `added`, times the probability that two of the images have equal values. Without it the interval
    is too narrow when few images differ from the rest. If all are equal, as many of them as in
    Wilson's interval for none might have been different, at one of the ends.
    Source: Student 1908; Agresti and Coull 1998, for what is added.
    """
    images, mean = len(values), float(values.mean())
    counts = np.unique(values.round(_DIGITS), return_counts=True)[1]
    if len(counts) == 1:
        others = share_of(0, images).high
        return Estimate(mean, mean - others * (mean - least), mean + others * (most - mean))
    part = added * np.square(counts / images).sum()
    weights = np.append(np.ones(images), (part, part))
    every = np.append(values, (least, most))
    total = weights.sum()
    centre = weights @ every / total
    error = np.sqrt(weights @ np.square(every - centre) / (total - 1) / total)
    half = stdtrit(total - 1, (1 + _CONFIDENCE) / 2) * error
    low, high = max(least, centre - half), min(most, centre + half)
    return Estimate(mean, float(min(low, mean)), float(max(high, mean)))
