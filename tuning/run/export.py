"""From the ledger and the votes to tables, figures and the exported classifier of a setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from results.curves import summary_row
from results.figures import curves_figure
from results.schema import BASELINES, CERTIFICATES, CONFIRMATION, VARIANTS
from results.store import write_bytes, write_cohen_tsv, write_table, write_text
from trainables.acceleration.voting import Precision
from trainables.black_box.queries import BlackBox
from trainables.smoothing.counting import forward_pixels
from trainables.smoothing.noise import BLOCK_SIZE
from trainables.smoothing.smoothed import CONFIG, export_config
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import WEIGHTS, denoiser_bytes
from tuning.certification.certificates import Certified
from tuning.config import RunConfig
from tuning.confirmation.confirm import Candidate, Confirmation
from tuning.run.manifest import config_hash
from tuning.setting.setting import Setting

# In the folder of a setting: what was trained after the search.
DENOISERS = "denoisers"


def write_confirmation(setting: Setting, confirmation: Confirmation) -> None:
    """Write confirmation.parquet and baselines.parquet."""
    images = len(setting.shots.tuning_labels) * confirmation.folds
    rows = _confirmation_rows(confirmation, images)
    write_table(setting.folder / "confirmation.parquet", rows, CONFIRMATION)
    bare = _baseline_rows(confirmation, images)
    write_table(setting.folder / "baselines.parquet", bare, BASELINES)


def write_certificates(
    folder: Path, certified: Mapping[str, Sequence[Certified]], metadata: Mapping[str, str]
) -> dict[str, list[dict[str, Any]]]:
    """Write certificates.parquet, the Cohen logs and curves.png; returns the rows by variant.

    Certificates of the Pareto front go to front.parquet.
    """
    how = {column: metadata[column] for column in ("precision", "device")}
    by_variant = {
        variant: [_certificate_row(variant, c) | how for c in images]
        for variant, images in certified.items()
    }
    rows = [row for name in VARIANTS for row in by_variant.get(name, ())]
    write_table(folder / "certificates.parquet", rows, CERTIFICATES, metadata)
    front = [row for name, group in by_variant.items() if name not in VARIANTS for row in group]
    if front:
        write_table(folder / "front.parquet", front, CERTIFICATES, metadata)
    logs = folder / "certificates"
    for variant, group in by_variant.items():
        write_cohen_tsv(logs / f"{variant}.tsv", group)
    # A front that was extended by more trials may have become shorter.
    for path in logs.glob("front-*.tsv"):
        if path.stem not in by_variant:
            path.unlink()
    write_bytes(folder / "curves.png", curves_figure(by_variant))
    return by_variant


def write_denoisers(setting: Setting, variants: Mapping[str, Candidate]) -> None:
    """Write denoisers/VARIANT.safetensors, for whoever certifies them again."""
    for variant, candidate in variants.items():
        if candidate.denoiser is not None:
            content = denoiser_bytes(candidate.denoiser, candidate.confirmed.sigma)
            write_bytes(setting.folder / DENOISERS / f"{variant}.safetensors", content)


def write_export(
    setting: Setting,
    best: Candidate,
    classifier: nn.Module,
    config: RunConfig,
    precision: Precision,
) -> None:
    """Write smoothed_classifier/: the winner's weights and all that deploying it needs."""
    assert best.denoiser is not None
    # Users load the export with the classifier itself, not with what hid its gradients.
    open_box = classifier.network if isinstance(classifier, BlackBox) else classifier
    text = export_config(
        open_box,
        setting.shots.tuning_images[0],
        len(setting.dataset.classes),
        best.confirmed.sigma,
        config.certificates,
        precision,
        setting.pixel_steps,
    )
    folder = setting.folder / "smoothed_classifier"
    folder.mkdir(exist_ok=True)
    write_bytes(folder / WEIGHTS, denoiser_bytes(best.denoiser, best.confirmed.sigma))
    write_text(folder / CONFIG, text)


def certificate_metadata(
    config: RunConfig,
    models: Mapping[str, nn.Module],
    images: Tensor,
    pixel_steps: int,
    precision: Precision,
    device: str,
) -> dict[str, str]:
    """What certificates.parquet says of the models, the `images` [n, C, H, W] and the noise."""
    hashes = {variant: weights_hash(model) for variant, model in models.items()}
    return {
        "config_hash": config_hash(config),
        "model_hash": hashes.get("best", hashes.get("none", "")),
        **{f"model_hash_{variant}": found for variant, found in hashes.items()},
        "noise": config.noise,
        # With sigma, all that the allowance for quantised noise depends on.
        "pixel_steps": str(pixel_steps),
        "pixels": str(images[0].numel()),
        "precision": precision,
        "block_size": str(BLOCK_SIZE),
        "forward_pixels": str(forward_pixels(torch.device(device))),
        "device": device,
    }


def summary_rows(
    setting: Setting,
    variants: Mapping[str, Candidate],
    certificates: Mapping[str, Sequence[Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """One row of summary.parquet per variant and member of the front."""
    rows = []
    for variant, candidate in variants.items():
        trial = candidate.confirmed.trial
        number = None if trial is None else trial.number
        score, accuracy = candidate.confirmed.score.mean, candidate.confirmed.accuracy
        rows.append(
            summary_row(setting.name, variant, number, score, accuracy, certificates[variant])
        )
    return rows


def _confirmation_rows(confirmation: Confirmation, images: int) -> list[dict[str, Any]]:
    """One row per confirmed trial, as in results.schema.CONFIRMATION."""
    rows = []
    certified = confirmation.variants | confirmation.front
    for confirmed in confirmation.trials:
        trial = confirmed.trial
        assert trial is not None
        assert trial.objective is not None
        variants = [name for name, chosen in certified.items() if chosen is confirmed]
        rows.append(
            {
                "number": trial.number,
                "root": trial.root,
                "origin": trial.origin,
                "variant": ", ".join(variants),
                "sigma": confirmed.sigma,
                "search_objective": trial.objective,
                "confirmed_objective": confirmed.score.mean,
                "standard_error": confirmed.score.standard_error,
                "confirmed_accuracy": confirmed.accuracy,
                "optimism_gap": trial.objective - confirmed.score.mean,
                "votes": confirmation.votes,
                "folds": confirmation.folds,
                "images": images,
                "selected": bool(variants),
            }
        )
    return rows


def _baseline_rows(confirmation: Confirmation, images: int) -> list[dict[str, Any]]:
    """One row per sigma of the bare classifier, as in results.schema.BASELINES."""
    return [
        {
            "sigma": confirmed.sigma,
            "objective": confirmed.score.mean,
            "accuracy": confirmed.accuracy,
            "votes": confirmation.votes,
            "images": images,
            "selected": confirmed is confirmation.variants["none"],
        }
        for confirmed in confirmation.bare
    ]


def _certificate_row(variant: str, certified: Certified) -> dict[str, Any]:
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
    }
