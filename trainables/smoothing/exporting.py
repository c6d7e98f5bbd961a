"""The files of an export, made from a denoiser and its classifier."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from torch import nn

from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser
from trainables.smoothing.export import CONFIG, PROBES, ExportConfig, sha256
from trainables.smoothing.noise import Noise
from trainables.smoothing.probes import Probes, ask, probe_images
from trainables.smoothing.procedures import Procedure
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import LARGEST_FILE, WEIGHTS, denoiser_bytes
from trainables.weights.packed import CLASSIFIER, classifier_bytes, load_packed


def export_files(
    model: nn.Sequential,
    image_shape: Sequence[int],
    noise: Noise,
    procedure: Procedure,
    **facts: Any,
) -> dict[str, bytes]:
    """The files of an export of `model`, a denoiser in front of a classifier, by name.

    Both are in evaluation mode. `image_shape` is [C, H, W]; `facts` are the other fields of
    `ExportConfig`, such as `precision`. The classifier is asked about `probes.QUERIES` images, and
    is among the files if what can be read back from there is the same one.

    Raises:
        InputError: when the classifier fails.
    """
    denoiser, classifier = model
    assert isinstance(denoiser, Denoiser)
    probes = ask(denoiser, classifier, probe_images(image_shape))
    files = {WEIGHTS: denoiser_bytes(denoiser, noise.sigma), PROBES: probes.data}
    numbers = {k: v for k, v in asdict(procedure).items() if k in ExportConfig.model_fields}
    packed = _packed(classifier, denoiser, probes)
    if packed is not None:
        files[CLASSIFIER] = packed
    config = ExportConfig.model_validate(
        {
            "procedure": procedure.name,
            "num_classes": probes.logits.shape[1],
            "image_shape": tuple(image_shape),
            **_source(classifier),
            "classifier_hash": weights_hash(classifier),
            "classifier_file_hash": None if packed is None else sha256(packed),
            "denoiser_hash": sha256(files[WEIGHTS]),
            "probes_hash": sha256(files[PROBES]),
            **noise._asdict(),
            **numbers,
            **facts,
        }
    )
    # Last, because it is about the others.
    return files | {CONFIG: config.sealed().text.encode()}


def _source(classifier: nn.Module) -> dict[str, str]:
    """Where the classifier comes from, as far as it tells; a file's name is not for others."""
    blueprint = classifier.blueprint if isinstance(classifier, BaseClassifier) else None
    if blueprint is None:
        return {}
    name = "" if blueprint.kind == "onnx" else blueprint.name
    return {"classifier_kind": blueprint.kind, "classifier_name": name}


def _packed(classifier: nn.Module, denoiser: Denoiser, probes: Probes) -> bytes | None:
    """The classifier as a file, if the one that is read back from it computes the same."""
    # A library can raise anything about a network that it cannot build again.
    with suppress(Exception):
        data = classifier_bytes(classifier) if isinstance(classifier, BaseClassifier) else None
        if data is not None and len(data) <= LARGEST_FILE:
            again = load_packed(data, probes.pixels)
            probes.check(denoiser, again)
            if weights_hash(again) == weights_hash(classifier):
                return data
    return None
