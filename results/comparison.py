"""How much a variant gains over a different one, image by image on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from results.curves import Estimate, paired_difference
from results.schema import Row
from results.score import Answers


@dataclass(frozen=True)
class Comparison:
    """What a variant gains over the variant `against`, with 95 % intervals.

    `score` and `accuracy`, the certified accuracy by radius, are shares; `acr` is in pixel units.
    """

    against: str
    score: Estimate
    accuracy: Mapping[float, Estimate]
    acr: Estimate

    @property
    def verdict(self) -> Literal["gain", "loss", "unclear"]:
        """Of the score; `unclear` when its interval includes zero."""
        if self.score.low > 0:
            return "gain"
        return "loss" if self.score.high < 0 else "unclear"


def compare(
    rows: Sequence[Row], against: str, others: Sequence[Row], radii: Sequence[float]
) -> Comparison:
    """What certificates gain over `others`, those of the variant `against`, at `radii`.

    Raises:
        ValueError: if the two were certified on different images.
    """
    images = [sorted(row["image_index"] for row in group) for group in (rows, others)]
    if images[0] != images[1]:
        raise ValueError(f"variant {against} was certified on different images")
    mine, theirs = Answers.of(rows), Answers.of(others)
    return Comparison(
        against,
        paired_difference(mine.scores(radii), theirs.scores(radii)),
        {at: paired_difference(mine.right(at), theirs.right(at)) for at in radii},
        paired_difference(mine.right(0) * mine.radius, theirs.right(0) * theirs.radius),
    )
