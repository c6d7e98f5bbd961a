"""What a configuration can choose by name, without the code that implements the choices.

Importing that code takes seconds, and a command line needs the names before that.
"""

from __future__ import annotations

import math
import re
from typing import Literal

# Those that torchvision can fetch.
PUBLISHED_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "stl10")
MEDMNIST = (
    *("pathmnist", "dermamnist", "octmnist", "pneumoniamnist", "retinamnist", "breastmnist"),
    *("bloodmnist", "tissuemnist", "organamnist", "organcmnist", "organsmnist"),
)
FILE_SETS = ("gtsrb", "eurosat", "tiny_imagenet")
DATASETS = ("digits", *PUBLISHED_DATASETS, *FILE_SETS, *MEDMNIST, "folder")
NoiseName = Literal["gaussian", "quantised"]
ProcedureName = Literal["fixed", "tolerance", "adaptive"]
# Votes that a certificate may take, and votes that may pick its class.
MOST_VOTES = 100_000_000
MOST_PILOT_VOTES = 1_000_000
# Stands for two objectives: the default one and the clean accuracy.
PARETO = "pareto"
ACR = "acr"
CERTIFIED_ACCURACY = "certified-accuracy"
# L2 radii that a user cares about, unless a search space or the user names others.
DEFAULT_RADII = (0.0, 0.25, 0.5, 0.75)


def objective_radii(text: str) -> tuple[float, ...] | None:
    """The radii of `certified-accuracy@R[,R]`, empty where none are named; None for `acr`.

    Raises:
        ValueError: for anything but these, `certified-accuracy` and `pareto`.
    """
    if text == ACR:
        return None
    if text in (CERTIFIED_ACCURACY, PARETO):
        return ()
    number = r"\d+(?:\.\d+)?"
    match = re.fullmatch(rf"{CERTIFIED_ACCURACY}@({number}(?:,{number})*)", text)
    if match is None:
        raise ValueError(
            f"{text!r} is unknown; pass certified-accuracy, certified-accuracy@R[,R] (for example "
            "certified-accuracy@0.25,0.5), acr or pareto"
        )
    return ascending(tuple(float(radius) for radius in match.group(1).split(",")))


def ascending(radii: tuple[float, ...]) -> tuple[float, ...]:
    """`radii`, which must ascend from 0 or above.

    Raises:
        ValueError: if they do not.
    """
    if list(radii) != sorted(set(radii)) or not all(0 <= radius < math.inf for radius in radii):
        listed = ", ".join(f"{radius:g}" for radius in radii)
        raise ValueError(f"{listed} must ascend, from 0 or above")
    return radii
