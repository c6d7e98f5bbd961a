"""How much a variant gains over a different one, image by image on the same images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from results.curves import Estimate, largest_radius, paired_difference
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
        ValueError: if the two were certified on different images or in different ways.
    """
    images = [sorted(row["image_index"] for row in group) for group in (rows, others)]
    if images[0] != images[1]:
        raise ValueError(f"variant {against} was certified on different images")
    # Other procedures choose the number of votes for each image.
    fixed = all(row["procedure"] == "fixed" for row in (*rows, *others))
    for name in ("alpha", "n0", "procedure", *(["n"] if fixed else [])):
        mine, other = ({row[name] for row in group} for group in (rows, others))
        if mine != other:
            raise ValueError(
                f"variant {against} was certified with {name} {_listed(other)}, not with "
                f"{_listed(mine)}: the two are not comparable"
            )
    a, b = Answers.of(rows), Answers.of(others)
    most = max(largest_radius(rows), largest_radius(others))
    return Comparison(
        against,
        paired_difference(a.scores(radii), b.scores(radii), 1 - a.lowest_mark),
        {at: paired_difference(a.right(at), b.right(at)) for at in radii},
        paired_difference(a.right(0) * a.radius, b.right(0) * b.radius, most),
    )


def _listed(values: set[Any]) -> str:
    return ", ".join(map(str, sorted(values)))
