"""The results of certification: a table, logs in Cohen et al.'s format, and curves."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from results import files
from results.examples import write_examples
from results.schema import CERTIFICATES, VARIANTS, variant_label
from results.store import write_bytes, write_cohen_tsv, write_table
from results.summary import Candidate, class_rows, summary_row, write_classes
from trainables.acceleration.voting import Precision
from trainables.smoothing.certify import Certificate
from trainables.smoothing.counting import forward_pixels
from trainables.smoothing.noise import BLOCK_SIZE
from trainables.weights.checkpoint import weights_hash
from tuning.certification.examples import example_images
from tuning.certification.subjects import Subject
from tuning.cluster.context import Context
from tuning.votes.counter import smoothable


class Certified(NamedTuple):
    """One image's certificate, and the seconds its votes took."""

    image_index: int
    label: int
    certificate: Certificate
    seconds: float


def write_results(
    subject: Subject,
    classifier: nn.Module,
    certified: Mapping[str, Sequence[Certified]],
    folder: Path,
    precision: Precision,
    context: Context,
) -> list[dict[str, Any]]:
    """Write the certificates of all models of `subject` to `folder`; returns their summary rows."""
    write_examples(folder, example_images(subject, context.seed(subject.name, "examples")))
    models = {name: smoothable(m.denoiser, classifier) for name, m in subject.models.items()}
    metadata = certificate_metadata(context, subject, models, precision)
    return summary_rows(subject, write_certificates(folder, subject, certified, metadata))


def write_certificates(
    folder: Path,
    subject: Subject,
    certified: Mapping[str, Sequence[Certified]],
    metadata: Mapping[str, str],
) -> dict[str, list[dict[str, Any]]]:
    """Write the certificates, their logs, those by class and curves.png; returns rows by variant.

    Certificates of what is not a variant, such as the Pareto front, go to front.parquet.
    """
    how = {column: metadata[column] for column in ("precision", "device")}
    by_variant = {
        variant: [certificate_row(variant, c) | how for c in of_images]
        for variant, of_images in certified.items()
    }
    rows = [row for name in VARIANTS for row in by_variant.get(name, ())]
    write_table(folder / files.CERTIFICATES, rows, CERTIFICATES, metadata)
    front = [row for name, group in by_variant.items() if name not in VARIANTS for row in group]
    if front:
        write_table(folder / files.FRONT, front, CERTIFICATES, metadata)
    for variant, group in by_variant.items():
        write_cohen_tsv(folder / files.log(variant), group)
    # After more trials, a front may have fewer members than before.
    for path in folder.glob(files.log("front-*")):
        if path.stem not in by_variant:
            path.unlink()
    classes = class_rows(by_variant, subject.dataset.classes, subject.radii)
    write_classes(folder / files.CLASSES, classes, subject.radii, metadata)
    labels = {name: variant_label(name, model.origin) for name, model in subject.models.items()}
    # Matplotlib, which delays the first trial.
    from results.figures import curves_figure

    write_bytes(folder / files.CURVES, curves_figure(by_variant, labels))
    return by_variant


def certificate_metadata(
    context: Context, subject: Subject, models: Mapping[str, nn.Module], precision: Precision
) -> dict[str, str]:
    """The metadata of certificates.parquet about the models, the images and the noise."""
    config, device = context.config, context.resources.device
    hashes = {variant: weights_hash(model) for variant, model in models.items()}
    return {
        **context.provenance,
        "model_hash": hashes.get("best", hashes.get("none", "")),
        **{f"model_hash_{variant}": found for variant, found in hashes.items()},
        "noise": config.noise,
        # Together with sigma, these determine the allowance for quantised noise.
        "pixel_steps": str(subject.pixel_steps),
        "pixels": str(subject.test.images[0].numel()),
        "precision": precision,
        "classes": str(len(subject.dataset.classes)),
        "class_names": json.dumps(subject.dataset.classes),
        "block_size": str(BLOCK_SIZE),
        "forward_pixels": str(forward_pixels(torch.device(device))),
        "device": device,
    }


def summary_rows(
    subject: Subject, certificates: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[dict[str, Any]]:
    """One row of summary.parquet for each model, from the rows of its certificates."""
    rows = []
    for variant, m in subject.models.items():
        candidate = Candidate(variant, m.origin, m.trial, m.objective, m.accuracy)
        rows.append(summary_row(subject.name, candidate, certificates[variant], subject.radii))
    return rows


def certificate_row(variant: str, certified: Certified) -> dict[str, Any]:
    """A row of certificates.parquet, without how it was computed."""
    c = certified.certificate
    return {
        "variant": variant,
        "image_index": certified.image_index,
        "label": certified.label,
        "predicted": c.predicted,
        "radius": c.radius,
        "votes_top": c.votes_top,
        "n": c.n,
        "n0": c.n0,
        "p_lower": c.p_lower,
        "sigma": c.sigma,
        "alpha": c.alpha,
        "seconds": certified.seconds,
        "procedure": c.procedure,
        "votes": c.votes,
        "votes_selected": c.votes_selected,
        "votes_selected_runner_up": c.votes_selected_runner_up,
        "runner_up": c.runner_up,
        "votes_runner_up": c.votes_runner_up,
        "p_upper": c.p_upper,
        "joint_radius": c.joint_radius,
    }
