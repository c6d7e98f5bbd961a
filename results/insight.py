"""What a search has learnt, and how it spent its trials."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from results.schema import SEARCHED, Row

# Of insight.json. Earlier versions held figures for a library that drew them in the browser.
_VERSION = 2


@dataclass(frozen=True)
class Insight:
    """What insight.json holds: `objective` is the name of the score.

    `importances` are by hyperparameter, the highest first, and add up to 1. `scores` holds pairs of
    epochs and score by trial number. Both are empty if there are too few trials.
    """

    objective: str
    importances: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[int, Sequence[tuple[int, float]]] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """What `of` reads back."""
        return {
            "version": _VERSION,
            "objective": self.objective,
            "importances": dict(self.importances),
            "scores": [[number, list(pairs)] for number, pairs in self.scores.items()],
        }

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> "Insight":
        """What `content` says; nothing if it is of an earlier version.

        Raises:
            ValueError: if it is not what `content` returns.
        """
        if all(isinstance(figure, Mapping) and "data" in figure for figure in content.values()):
            return cls("objective")
        try:
            if content["version"] != _VERSION:
                raise ValueError(f"its version is {content['version']}, not {_VERSION}")
            importances = {str(k): _finite(v) for k, v in content["importances"].items()}
            scores = {
                int(number): [(int(epochs), _finite(score)) for epochs, score in pairs]
                for number, pairs in content["scores"]
            }
            return cls(str(content["objective"]), importances, scores)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"is not what a study writes: {error}") from error


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


def _finite(value: Any) -> float:
    if not math.isfinite(number := float(value)):
        raise ValueError(f"{value} is not a number")
    return number
