"""The bounds of a certificate, recomputed from its row with SciPy's distributions."""

from collections.abc import Mapping
from typing import Any

from scipy.stats import beta


def expected_bounds(row: Mapping[str, Any], taken: float = 0.0) -> tuple[float, float]:
    """On the class picked and on all others, of more than two; `taken` is for the noise."""
    alone = row["votes_selected"] == row["n0"]
    n, votes, others = row["n"], row["votes_top"], row["votes_runner_up"]
    alpha = row["alpha"] if alone else row["alpha"] / 2
    lower = max(0.0, beta.ppf(alpha, votes, n - votes + 1) - taken) if votes else 0.0
    upper = beta.ppf(1 - alpha, others + 1, n - others) + taken if others < n else 1.0
    return lower, 1 - lower if alone else min(upper, 1 - lower)
