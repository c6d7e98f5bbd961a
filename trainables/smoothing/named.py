"""The classifier that a command line names for an export that does not hold its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
from pydantic import BaseModel, Field

from trainables.command import Flag
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.export import read_config
from trainables.weights.sources import ClassifierSpec, load_base_classifier


class ClassifierFlags(BaseModel):
    """Which classifier belongs to an export."""

    classifier: Annotated[str | None, Flag("SPEC")] = Field(
        None, description="for an export that does not hold its own, as for decrop certify"
    )
    weights: Path | None = Field(None, description="state dict for the network of --classifier")


def named_classifier(flags: ClassifierFlags, export: Path) -> BaseClassifier | None:
    """The classifier that `flags` name for the `export` in this folder; None if they name none.

    Raises:
        InputError: when it cannot be loaded, or does not take the images of the export.
    """
    if flags.classifier is None:
        return None
    shape = read_config(export).image_shape
    images = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    return load_base_classifier(ClassifierSpec(flags.classifier, flags.weights), images)
