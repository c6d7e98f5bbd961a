"""The model card of an exported classifier: README.md, in the layout of the Hugging Face Hub.

It is written from the run's tables. Names of classes, data sets and classifiers come from elsewhere
and are escaped, so that they are text wherever the card is shown.
"""

import json
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml

from results import files
from results.run import Run, Setting
from results.schema import Row, accuracy_column, variant_label, wrong_column
from results.sentences import details, headline, middle, percent, sentence, winner
from results.store import StoreError, write_text
from results.verdict import Verdict

# A card is read by people: so many names of classes are listed.
_LISTED = 20
_KINDS = {
    "architecture": "the architecture",
    "timm": "timm's",
    "transformers": "a network of transformers",
    "program": "a program of torch.export",
    "onnx": "an ONNX graph",
    "factory": "the network of",
    "endpoint": "an endpoint that answers queries",
    "module": "a PyTorch module",
}
# What Markdown or HTML would understand, links by their address included; and characters that are
# not seen, or begin a new line.
_MARKDOWN = re.compile(r"[\\`*_<>\[\]|&~$#!@{}]|:(?=//)|(?<=www)\.", re.IGNORECASE)
_INVISIBLE = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_FLOATING = {
    "gaussian": "It is proved in real arithmetic. In floating point there are known, tiny "
    "counter-examples (Voracek and Hein 2023).",
    "quantised": "It holds in floating point, for all images on the same grid of pixels.",
}


def write_model_card(run: Run, setting: Setting, verdict: Verdict) -> Path | None:
    """Write README.md beside the exported classifier of a setting; None if there is no export.

    Raises:
        StoreError: if the export's configuration is damaged.
        OSError: if the card cannot be written.
    """
    folder = run.folder / setting.name / files.EXPORT
    config = folder / files.EXPORT_CONFIG
    if not config.is_file():
        return None
    try:
        exported = json.loads(config.read_text(encoding="utf-8"))
        card = _render(run, setting, verdict, exported)
    except (KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{config}: is not the configuration of an export: {error}") from error
    write_text(folder / files.CARD, card)
    return folder / files.CARD


def escaped(text: object) -> str:
    """`text` on one line, with nothing in it that Markdown or HTML would understand."""
    plain = "".join(
        ascii(c)[1:-1] if unicodedata.category(c) in _INVISIBLE else c for c in str(text)
    )
    return _MARKDOWN.sub(r"\\\g<0>", plain)


def _render(run: Run, setting: Setting, verdict: Verdict, exported: Mapping[str, Any]) -> str:
    # Not HTML: what comes from elsewhere is escaped where it stands.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["md"] = escaped
    best = verdict.best
    votes = [row["votes"] for row in setting.certificates["best"]]
    return environment.get_template("model_card.md.j2").render(
        metadata=_metadata(run, setting, best),
        title=setting.name,
        statement=sentence(headline(verdict)),
        details=details(verdict),
        images=best["images"],
        radii=best["radii"],
        label=variant_label("best", best["origin"]),
        rows=[_row(row, best["radii"]) for row in setting.summary],
        classes=_classes(setting, middle(best["radii"])),
        alpha=best["alpha"],
        one_in=f"{1 / best['alpha']:,.0f}",
        votes=f"{sum(votes) / len(votes):,.0f}",
        floating=_FLOATING["quantised" if exported["pixel_steps"] else "gaussian"],
        resized=exported["image_form"]["image_size"] is not None,
        facts=_facts(run, verdict, exported),
        whole=exported["classifier_file_hash"] is not None,
    )


def _metadata(run: Run, setting: Setting, best: Row) -> str:
    """The YAML at the beginning, which the Hub shows and searches."""
    dataset = setting.name.rpartition("-")[0]
    metrics = [
        {
            "type": "certified_accuracy",
            "name": f"certified accuracy at L2 radius {at:g}, in %",
            "value": round(100 * best[accuracy_column(at)], 1),
        }
        for at in best["radii"]
    ]
    result = {
        "task": {"type": "image-classification"},
        "dataset": {"type": dataset, "name": setting.name},
        "metrics": metrics,
    }
    data = {
        "library_name": "decrop-tuning",
        "pipeline_tag": "image-classification",
        "tags": ["certified-robustness", "randomized-smoothing", "denoised-smoothing", "pytorch"],
        "model-index": [{"name": f"{run.name}-{setting.name}", "results": [result]}],
    }
    text: str = yaml.safe_dump(data, sort_keys=False, allow_unicode=True)
    return text.rstrip()


def _row(row: Row, radii: Sequence[float]) -> dict[str, Any]:
    """A variant's line of the table."""
    return {
        "label": variant_label(row["variant"], row["origin"]),
        "sigma": row["sigma"],
        "acr": row["acr"],
        "cells": [(percent(row[accuracy_column(at)]), percent(row[wrong_column(at)]))
                  for at in radii],
    }  # fmt: skip


def _classes(setting: Setting, at: float) -> str:
    """How the winner's certified accuracy differs between classes, the lowest first."""
    rows = [row for row in setting.classes if row["variant"] == "best" and row["images"]]
    rows.sort(key=lambda row: (row[accuracy_column(at)], row["class"]))
    if len(rows) < 2:
        return ""
    shares = [
        f"{row['name']}: {percent(row[accuracy_column(at)])}% of {row['images']}" for row in rows
    ]
    if len(shares) > _LISTED:
        shares = [*shares[: _LISTED // 2], "...", *shares[-_LISTED // 2 :]]
    return f"Classes differ. Certified right at radius {at:g}: {', '.join(shares)}."


def _facts(run: Run, verdict: Verdict, exported: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the model consists of and how it was found."""
    best = verdict.best
    names = exported["class_names"]
    listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
    channels, height, width = exported["image_shape"]
    noise = f"sigma {exported['sigma']:g}"
    if exported["pixel_steps"]:
        noise += f", rounded to multiples of 1/{exported['pixel_steps']}"
    votes = f"{exported['procedure']}, n0 = {best['n0']}, n = {best['n']} at most"
    kind = f"{_KINDS[exported['classifier_kind']]} {exported['classifier_name']}".strip()
    dataset, _, shots = verdict.setting.rpartition("-")
    size = f"{width} x {height} pixels, {'grey' if channels == 1 else 'RGB'}"
    return [
        ("Data set", dataset),
        ("Labelled images", shots.replace("shot", " of each class").replace("pct", "% of them")),
        ("Classes", f"{exported['num_classes']}{': ' if names else ''}{listed}"),
        ("Images", size + (", resized" if exported["image_form"]["image_size"] else "")),
        ("Classifier", f"{kind}, weights {exported['classifier_hash'][:12]}, never changed"),
        ("Denoiser", f"trained on those images; {winner(verdict)}"),
        ("Noise", noise),
        ("Certificates", votes),
        ("Precision", exported["precision"]),
        ("Run", f"{run.name} {run.manifest.get('run_id', '')}".strip()),
    ]
