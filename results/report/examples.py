"""Example images on the page: what noise and denoisers do to them, and what is certified."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from results.examples import Examples, Pixels
from results.run import Setting
from results.schema import Row


class Tile(NamedTuple):
    """A picture as a data URI, a text for those who cannot see it, and what is said below it."""

    uri: str
    text: str
    below: str = ""
    kind: str = ""


class Strip(NamedTuple):
    """A row of pictures with its title."""

    title: str
    tiles: Sequence[Tile]


def strips(examples: Examples, setting: Setting, labels: Mapping[str, str]) -> list[Strip]:
    """Rows of pictures: the clean images, then for each variant the noisy and denoised ones."""
    names = _class_names(setting)
    rows = {
        variant: {
            row["image_index"]: row for row in group if row["image_index"] in examples.indices
        }
        for variant, group in setting.certificates.items()
    }
    true = next(iter(rows.values()), {})
    clean = [
        Tile(uri, f"image {index}", names(true[index]["label"]) if index in true else "")
        for index, uri in zip(examples.indices, _uris(examples.clean), strict=True)
    ]
    found = [Strip("Clean, with the true class", clean)]
    for variant, noisy in examples.noisy.items():
        if variant not in labels or variant not in rows:
            continue
        sigma = setting.certificates[variant][0]["sigma"]
        pictures, what = noisy, f"noise of sigma {sigma:.3g}"
        if variant in examples.denoised:
            pictures = np.concatenate([noisy, examples.denoised[variant]], axis=3)
            what += ", and denoised"
        tiles = [
            Tile(uri, f"image {index} with {what}", *_outcome(rows[variant].get(index), names))
            for index, uri in zip(examples.indices, _uris(pictures), strict=True)
        ]
        found.append(Strip(f"{labels[variant]}: {what}", tiles))
    return found


def _outcome(row: Row | None, names: "_Names") -> tuple[str, str]:
    """What is said below a picture, and whether it is a gain or a loss."""
    if row is None:
        return "", ""
    if row["predicted"] < 0:
        return "abstains", "unclear"
    if row["predicted"] != row["label"]:
        return f"wrong: {names(row['predicted'])}, {row['radius']:.2f}", "loss"
    return f"{names(row['label'])}, {row['radius']:.2f}", "gain"


class _Names:
    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def __call__(self, label: int) -> str:
        return str(self._names[label]) if 0 <= label < len(self._names) else str(label)


def _class_names(setting: Setting) -> _Names:
    try:
        names = json.loads(setting.metadata.get("class_names", "[]"))
    except ValueError:
        names = []
    return _Names(names if isinstance(names, list) else [])


def _uris(pixels: Pixels) -> list[str]:
    return [_uri(image) for image in pixels]


def _uri(image: Pixels) -> str:
    """A PNG of uint8 [channels, height, width] as a data URI."""
    channels_last = np.ascontiguousarray(image.transpose(1, 2, 0))
    picture = Image.fromarray(channels_last[:, :, 0] if len(image) == 1 else channels_last)
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
