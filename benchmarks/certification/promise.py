"""What the tolerance procedure costs, and how often it loses more than it promises to.

Usage: python -m benchmarks.certification.promise [--n0 100] [--images 20000] [--like FILE ...]

Votes are drawn for a class of known probability: those of the pilot, the fresh ones, and for
comparison the rest of all n. For each probability it prints the votes an image, the share of images
whose radius with all n votes is more than the tolerance larger, the mean of what is lost, and how
many fewer images are certified. FILE says how images are distributed. It is a log in Cohen's
format whose name ends in its sigma, made with 100 000 votes, or counts like those of
tests/trainables/smoothing/votes.json. From a log the probabilities follow from the radii, 0.45 for
an abstention; from counts they are the shares of votes.
"""

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri

from benchmarks.command_line import parser
from trainables.smoothing.bounds import Counts, Floats
from trainables.smoothing.sufficient import Promise, Votes

PROBABILITIES = (0.5, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999, 0.9999)
SIGMAS, NUMBERS = (0.12, 0.25, 0.5, 1.0), (10_000, 100_000)
ALPHA, TOLERANCE = 0.001, 0.02
RADII = (0.25, 0.5, 0.75)
# Of the votes in published logs.
LOGGED = 100_000


class Outcome(NamedTuple):
    """Of simulated images [images]: fresh votes, the radius, and that of all n votes.

    Radii are in units of sigma.
    """

    votes: Counts
    radius: Floats
    whole: Floats

    def losing(self, tolerance: float) -> float:
        """The share of images that lose more than the tolerance, in units of sigma."""
        return float((self.whole - self.radius > tolerance + 1e-9).mean())


class Classes(NamedTuple):
    """The probability of the picked class, and of the runner-up; the rest is for a third one."""

    top: float
    runner_up: float

    def draw(self, votes: Counts, generator: np.random.Generator) -> Counts:
        """How many of the `votes` [images] are for the top, and for any one other: [2, images]."""
        shares = (self.top, self.runner_up, max(0.0, 1 - self.top - self.runner_up))
        counts = generator.multinomial(votes, shares)
        return counts.T


def simulate(
    promise: Promise, n0: int, classes: Classes, images: int, generator: np.random.Generator
) -> Outcome:
    """Images of which the pilot picks the class, with votes as the promise asks for."""
    n = promise.n
    pilot = classes.draw(np.full(images, n0), generator)
    pairs, places = np.unique([pilot[0], pilot[1:].max(axis=0)], axis=1, return_inverse=True)
    stops = [promise.stops(Votes(n0, int(a), int(b))) for a, b in pairs.T]
    cast = np.zeros(images, dtype=np.int64)
    counts, going = np.zeros((3, images), dtype=np.int64), np.ones(images, dtype=np.bool_)
    for number in range(max(map(len, stops))):
        targets = np.array([each[min(number, len(each) - 1)] for each in stops])[places]
        more = np.where(going, targets - cast, 0)
        counts, cast = counts + classes.draw(more, generator), cast + more
        going &= ~_given_up(promise, cast, counts)
    whole = counts + classes.draw(n - cast, generator)
    return Outcome(cast, radius(promise, cast, counts), radius(promise, np.full(images, n), whole))


def _given_up(promise: Promise, cast: Counts, counts: Counts) -> NDArray[np.bool_]:
    """Which images [images] have no radius and no hope for one above the tolerance."""
    states = np.stack([cast, counts[0], counts[1:].max(axis=0)])
    states[:, radius(promise, cast, counts) > 0] = 0
    seen, places = np.unique(states, axis=1, return_inverse=True)
    hopeless = [n > 0 and promise.is_hopeless(Votes(n, a, b)) for n, a, b in seen.T.tolist()]
    return np.array(hopeless, dtype=np.bool_)[places]


def radius(promise: Promise, cast: Counts, counts: Counts) -> Floats:
    """What `counts` [3, images] of the votes `cast` [images] prove, in units of sigma."""
    low, high = (
        _quantile(votes, cast, promise.level)
        for votes in (counts[0], cast - counts[1:].max(axis=0))
    )
    both = (low + np.maximum(low, high)) / 2 if promise.two_class else low
    return np.maximum(both, 0)


def _quantile(votes: Counts, cast: Counts, level: float) -> Floats:
    """Of the normal distribution, at the Clopper-Pearson bounds."""
    some = np.maximum(votes, 1)
    found: Floats = np.where(votes > 0, ndtri(betaincinv(some, cast - some + 1, level)), -np.inf)
    return found


class Images(NamedTuple):
    """Probabilities of the picked class, and whether it is the true one: arrays [images]."""

    name: str
    sigma: float
    top: Floats
    right: NDArray[np.bool_]


def images_of(file: Path) -> list[Images]:
    """The images of a log, or those of each entry in a file of counts."""
    if file.suffix == ".json":
        return [
            _counted(name, entry["sigma"], np.array(entry["votes"]), entry["labels"])
            for name, entry in json.loads(file.read_text()).items()
        ]
    lines = [line.split("\t") for line in file.read_text().splitlines()[1:]]
    sigma = float(file.stem.split("_")[-1])
    low = np.array([ndtr(float(line[3]) / sigma) for line in lines])
    top = np.minimum(low - ndtri(ALPHA) * np.sqrt(low * (1 - low) / LOGGED), 1 - 1 / LOGGED)
    top[[line[2] == "-1" for line in lines]] = 0.45
    return [Images(file.name, sigma, top, np.array([line[4] == "1" for line in lines]))]


def _counted(name: str, sigma: float, votes: Counts, labels: list[int]) -> Images:
    right = votes.argmax(axis=1) == np.array(labels)
    return Images(name, sigma, votes.max(axis=1) / votes.sum(axis=1), right)


def show(options: argparse.Namespace) -> None:
    """A table for each n and sigma."""
    for n in NUMBERS:
        for sigma in SIGMAS:
            promise = Promise(n, ALPHA, TOLERANCE / sigma, two_class=False)
            print(f"\nn = {n}, sigma {sigma:g}, n0 = {options.n0}")
            print("| p | votes | lose more than the tolerance | mean loss | fewer certified |")
            print("|---|---|---|---|---|")
            for p in PROBABILITIES:
                generator = np.random.default_rng(0)
                found = simulate(promise, options.n0, Classes(p, 1 - p), options.images, generator)
                loss = sigma * (found.whole - found.radius).mean()
                fewer = ((found.whole > 0) & (found.radius <= 0)).mean()
                print(
                    f"| {p} | {options.n0 + found.votes.mean():.0f} "
                    f"| {found.losing(promise.tolerance):.3f} | {loss:.4f} | {fewer:.3f} |"
                )


def show_images(images: Images, n0: int) -> None:
    """Votes an image, what is lost, and what is certified at RADII, and would be by all votes."""
    promise = Promise(NUMBERS[0], ALPHA, TOLERANCE / images.sigma, two_class=False)
    generator = np.random.default_rng(0)
    found = [simulate(promise, n0, Classes(p, 1 - p), 20, generator) for p in images.top]
    votes = n0 + np.mean([each.votes for each in found])
    radii, whole = (
        images.sigma * np.array(each)
        for each in zip(*((one.radius, one.whole) for one in found), strict=True)
    )
    at, all_at = (
        " / ".join(f"{((each >= r) & images.right[:, None]).mean():.3f}" for r in RADII)
        for each in (radii, whole)
    )
    print(
        f"{images.name}, sigma {images.sigma:g}: {votes:.0f} votes of {promise.n + n0}, mean loss "
        f"{(whole - radii).mean():.4f}, certified at {RADII} {at}, by all votes {all_at}"
    )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--n0", type=int, default=100)
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--like", type=Path, nargs="*", default=[], metavar="FILE")
    options = arguments.parse_args()
    show(options)
    for images in (each for file in options.like for each in images_of(file)):
        show_images(images, options.n0)


if __name__ == "__main__":
    main()
