"""The Pareto front: the scores that no other dominates."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Scores = Sequence[tuple[float, float]]


def front(scores: Scores) -> list[int]:
    """Indices of the `scores` that no other dominates, in order.

    A score dominates another if it is at least as high in both values, and higher in one.
    """
    values = np.asarray(scores, dtype=np.float64).reshape(-1, 2)
    return [
        index
        for index, one in enumerate(values)
        if not ((values >= one).all(axis=1) & (values > one).any(axis=1)).any()
    ]


def by_rank(scores: Scores) -> list[int]:
    """All indices, best first: by front, and within a front the least crowded first.

    Source: Deb et al. 2002 (NSGA-II), Section III.
    """
    order: list[int] = []
    left = list(range(len(scores)))
    while left:
        members = [left[index] for index in front([scores[i] for i in left])]
        distances = _crowding([scores[i] for i in members])
        order += [members[i] for i in np.argsort(-distances, kind="stable")]
        left = [index for index in left if index not in set(members)]
    return order


def _crowding(scores: Scores) -> NDArray[np.float64]:
    """The distance between each one's neighbours, as a share of the range; infinite at the ends."""
    values = np.asarray(scores, dtype=np.float64)
    distances = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        distances[order[[0, -1]]] = np.inf
        if span := np.ptp(column):
            distances[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return distances
