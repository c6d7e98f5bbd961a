"""How a search spent its trials: how many continued at each rung."""

from collections.abc import Sequence
from dataclasses import dataclass

from results.schema import SEARCHED, Row


@dataclass(frozen=True)
class Rung:
    """`reached` trials were trained for `epochs` or longer, and `went_on` of them for longer."""

    epochs: int
    reached: int
    went_on: int

    @property
    def share(self) -> float:
        """The share of the trials that continued, in [0, 1]."""
        return self.went_on / self.reached


def rungs(trials: Sequence[Row]) -> list[Rung]:
    """The rungs at which trials of the search ended, the last one included; ascending.

    `trials` are rows of a trials table. Trials that failed, the published values and the baselines
    do not count: the published values and the baselines are never stopped early.
    """
    ends = [
        row["epochs"]
        for row in trials
        if row["state"] in {"complete", "pruned"} and row["origin"] in SEARCHED and row["epochs"]
    ]
    return [
        Rung(epochs, sum(end >= epochs for end in ends), sum(end > epochs for end in ends))
        for epochs in sorted(set(ends))
    ]
