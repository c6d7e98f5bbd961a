"""Example images on the page: what noise and denoisers do to them, and what is certified."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from PIL import Image

from results.examples import Examples, Pixels
from results.run import Setting
from results.schema import Row


class Tile(NamedTuple):
    """Pictures as data URIs, each with a text for those who cannot see it, and what is below."""

    pictures: Sequence[tuple[str, str]]
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
        Tile([(uri, f"image {index}")], names(true[index]["label"]) if index in true else "")
        for index, uri in zip(examples.indices, _uris(examples.clean), strict=True)
    ]
    found = [Strip("Clean, with the true class", clean)]
    for variant, noisy in examples.noisy.items():
        if variant not in labels or variant not in rows:
            continue
        sigma = setting.certificates[variant][0]["sigma"]
        shown = {f"with noise of sigma {sigma:.3g}": _uris(noisy)}
        if variant in examples.denoised:
            shown["denoised"] = _uris(examples.denoised[variant])
        tiles = [
            Tile(
                [(uris[place], f"image {index} {how}") for how, uris in shown.items()],
                *_outcome(rows[variant].get(index), names),
            )
            for place, index in enumerate(examples.indices)
        ]
        found.append(Strip(f"{labels[variant]}: {', and '.join(shown)}", tiles))
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
    grey = len(image) == 1
    picture = Image.fromarray(image[0] if grey else image.transpose(1, 2, 0).copy())
    buffer = io.BytesIO()
    picture.save(buffer, format="png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
