"""Certificates recomputed from their counts, independently of the code that made them.

The formulas of docs/certification.md are implemented again on top of SciPy's distributions; nothing
is imported from the code that makes certificates.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.special import betaln
from scipy.stats import beta, norm

from results.schema import Row

_CLOSE = 1e-9
# What is subtracted from a bound under quantised noise for rounding errors.
_ROUNDING = 1e-12


def check_bounds(
    rows: Sequence[Row], config: Mapping[str, Any], metadata: Mapping[str, str]
) -> Iterator[tuple[Row, str]]:
    """Certificates of one variant that do not follow from their own counts, with what is wrong.

    `metadata` is that of their table.
    """
    quantised = config.get("noise") == "quantised"
    taken = _allowance(metadata, rows[0]["sigma"]) if quantised else 0.0
    two_classes = metadata.get("classes") == "2"
    for row in rows:
        found = list(_problems(row, int(config["n"]), taken, two_classes))
        joint = _joint_problems(row, int(config["n"]), taken, two_classes, len(rows))
        for problem in found or joint:
            yield row, problem


def _allowance(metadata: Mapping[str, str], sigma: float) -> float:
    """What is subtracted from a bound under quantised noise: see docs/certification.md."""
    deviation = sigma * int(metadata["pixel_steps"])
    # The most steps of noise whose probability is not 0 in 63 bits.
    reach = math.floor(deviation * float(norm.isf(2.0**-64)) + 0.5)
    return int(metadata["pixels"]) * (2 * reach + 3) * 2.0**-64 + _ROUNDING


def _problems(row: Row, most: int, taken: float, two_classes: bool) -> Iterator[str]:
    """What is wrong with a certificate of at most `most` votes."""
    n, votes, alpha, sigma = row["n"], row["votes_top"], row["alpha"], row["sigma"]
    counted = votes >= 0 and 0 <= row["votes_runner_up"] <= n - votes and n <= most
    if not (counted and 0 <= row["votes_selected"] <= row["n0"] and 0 < alpha < 1 and sigma > 0):
        yield f"{votes} of {n} votes at alpha {alpha} and sigma {sigma} is impossible"
        return
    if row["procedure"] == "adaptive":
        lower, upper = row["p_lower"], 1 - row["p_lower"]
        proved = _decided(row, most, taken)
    else:
        lower, upper = _bounds(row, taken, two_classes)
        proved = lower > upper
    radius = sigma / 2 * float(norm.ppf(lower) - norm.ppf(upper)) if proved else 0.0
    # An allowance may be less than `_CLOSE`, which would let a bound pass without it.
    within = taken / 2 if taken else _CLOSE
    if not -_CLOSE <= row["p_lower"] - lower <= within:
        yield f"the bound is {row['p_lower']}, recomputed {lower}"
    if not -within <= row["p_upper"] - upper <= _CLOSE:
        yield f"the bound of the runner-up is {row['p_upper']}, recomputed {upper}"
    if not abs(row["radius"] - radius) <= _CLOSE:
        yield f"the radius is {row['radius']}, recomputed {radius}"
    if (row["predicted"] >= 0) != proved:
        yield f"it {'abstains' if proved else 'claims a class'}, contrary to its votes"


def _joint_problems(
    row: Row, most: int, taken: float, two_classes: bool, images: int
) -> Iterator[str]:
    """What is wrong with the radius at alpha / `images`; an adaptive one may be too small."""
    shared, found = {**row, "alpha": row["alpha"] / images}, row["joint_radius"]
    if row["procedure"] == "adaptive":
        claimed = float(norm.cdf((found or 0.0) / row["sigma"]))
        if found is not None and not _decided({**shared, "p_lower": claimed}, most, taken):
            yield f"the joint radius is {found}, which the votes do not prove"
        return
    lower, upper = _bounds(shared, taken, two_classes)
    radius = row["sigma"] / 2 * float(norm.ppf(lower) - norm.ppf(upper)) if lower > upper else None
    if (found is None) != (radius is None) or abs((found or 0.0) - (radius or 0.0)) > _CLOSE:
        yield f"the joint radius is {found}, recomputed {radius}"


def _bounds(row: Row, taken: float, two_classes: bool) -> tuple[float, float]:
    """The bounds on the picked class and on the others, which its votes and the pilot's prove."""
    alone = two_classes or row["votes_selected"] == row["n0"]
    n, alpha = row["n"], row["alpha"] if alone else row["alpha"] / 2
    votes, others = row["votes_top"], row["votes_runner_up"]
    lower = max(0.0, float(beta.ppf(alpha, votes, n - votes + 1)) - taken) if votes else 0.0
    if alone or others == n:
        return lower, 1 - lower
    return lower, min(1 - lower, float(beta.ppf(1 - alpha, others + 1, n - others)) + taken)


def _decided(row: Row, most: int, taken: float) -> bool:
    """Whether the votes prove the bound that an adaptive certificate claims plus `taken`.

    Either the evidence against every smaller probability is 2 / alpha, or the last test at
    alpha / 2 succeeds.
    """
    n, votes, p0 = row["n"], row["votes_top"], row["p_lower"] + taken
    if not 0.5 <= p0 < 1:
        return False
    a, b = votes + 0.5, n - votes + 0.5
    evidence = (
        betaln(a, b)
        + beta.logsf(p0, a, b)
        - betaln(0.5, 0.5)
        - beta.logsf(p0, 0.5, 0.5)
        - votes * math.log(p0)
        - (n - votes) * math.log1p(-p0)
    )
    last = beta.ppf(row["alpha"] / 2, votes, n - votes + 1) if votes else 0.0
    return bool(
        evidence >= math.log(2 / row["alpha"]) - _CLOSE or (n == most and last >= p0 - _CLOSE)
    )
