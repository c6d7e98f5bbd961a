"""How many labelled images of each class the user owns."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, repr=False)
class ShotCount:
    """Labelled images per class: a number, `10`, or a percentage of the training images, `5%`.

    Raises:
        ValueError: when `text` is neither.
    """

    text: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[1-9]\d{0,8}|(?:100|\d{1,2}(?:\.\d+)?)%", self.text):
            raise ValueError(f"{self.text!r} is neither a number above 0 nor a percentage as in 5%")

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return repr(self.text)

    @property
    def label(self) -> str:
        """The count as part of a file name: `10shot`, or `5pct`."""
        return f"{self.text.removesuffix('%')}{'pct' if self.text.endswith('%') else 'shot'}"

    def count(self, available: int) -> int:
        """The number of images for a class with `available` ones; it may be more than that."""
        if self.text.endswith("%"):
            return round(float(self.text.removesuffix("%")) / 100 * available)
        return int(self.text)
