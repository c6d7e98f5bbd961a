"""What a configuration can choose by name, without the code that implements the choices.

Importing that code takes seconds, and a command line needs the names before that.
"""

from __future__ import annotations

import re
from typing import Literal

# Those that torchvision can fetch.
PUBLISHED_DATASETS = ("mnist", "fashion_mnist", "cifar10", "cifar100", "svhn")
DATASETS = ("digits", *PUBLISHED_DATASETS, "folder")
NoiseName = Literal["gaussian", "quantised"]
ProcedureName = Literal["fixed", "tolerance", "adaptive"]
# Stands for two objectives: the ACR and the clean accuracy.
PARETO = "pareto"


def objective_radius(text: str) -> float | None:
    """The radius R of `certified-accuracy@R`; None for `acr` and `pareto`.

    Raises:
        ValueError: for anything else.
    """
    if text in ("acr", PARETO):
        return None
    match = re.fullmatch(r"certified-accuracy@(\d+(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(
            f"{text!r} is unknown; pass acr, pareto or certified-accuracy@R, for example "
            "certified-accuracy@0.5"
        )
    return float(match.group(1))
