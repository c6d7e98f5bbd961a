"""Certificates recomputed from their counts, independently of the code that made them.

The formulas of docs/certification.md are implemented again on top of SciPy's distributions; nothing
is imported from the code that makes certificates.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from scipy.special import betaln
from scipy.stats import beta, norm

from results import files
from results.run import Run, Setting, load_run
from results.schema import CERTIFICATES, Row
from results.store import read_cohen_tsv, read_table
from results.summary import Candidate, summary_row

_CLOSE = 1e-9
# Cohen's logs have six decimals, rounded down.
_PRINTED = 1e-6
# What is subtracted from a bound under quantised noise for rounding errors.
_ROUNDING = 1e-12


def verify(folder: Path) -> tuple[int, list[str]]:
    """The number of certificates of a run, and one line for each that does not hold.

    Raises:
        StoreError: if a file is missing or damaged.
    """
    run = load_run(folder)
    found = [
        (setting, variant, rows)
        for setting in run.settings
        for variant, rows in _certificates(folder, setting).items()
    ]
    wrong = [
        line for setting, variant, rows in found for line in _check(run, setting, variant, rows)
    ]
    return sum(len(rows) for _, _, rows in found), wrong


def _certificates(folder: Path, setting: Setting) -> dict[str, list[Row]]:
    groups = {variant: list(rows) for variant, rows in setting.certificates.items()}
    front = folder / setting.name / files.FRONT
    for row in read_table(front, CERTIFICATES) if front.exists() else ():
        if row["variant"] not in setting.certificates:
            groups.setdefault(row["variant"], []).append(row)
    for rows in groups.values():
        rows.sort(key=lambda row: row["image_index"])
    return groups


def _check(run: Run, setting: Setting, variant: str, rows: list[Row]) -> Iterator[str]:
    where = f"{setting.name}: {variant}"
    named, meant = (kind.get("noise", "gaussian") for kind in (setting.metadata, run.config))
    if named != meant:
        yield f"{where}: certified with {named} noise, but the run is configured for {meant}"
    taken = _allowance(setting.metadata, rows[0]["sigma"]) if meant == "quantised" else 0.0
    for row in rows:
        for problem in _problems(row, int(run.config["n"]), taken):
            yield f"{where}, image {row['image_index']}: {problem}"
    log = read_cohen_tsv(run.folder / setting.name / files.log(variant))
    expected = [(r["image_index"], r["label"], r["predicted"]) for r in rows]
    if sorted((line.idx, line.label, line.predict) for line in log) != expected:
        yield f"{where}: the log in certificates/ has different images, labels or predictions"
    printed = {line.idx: line.radius for line in log}
    for row in rows:
        short = row["radius"] - printed.get(row["image_index"], 0.0)
        if not 0 <= short < 2 * _PRINTED:
            yield f"{where}, image {row['image_index']}: the log's radius is {short} off"
    for line in setting.summary:
        if line["variant"] == variant:
            for problem in _summary_problems(line, rows):
                yield f"{where}: {problem}"


def _summary_problems(line: Row, rows: list[Row]) -> Iterator[str]:
    """The columns of a row of the summary that do not follow from the certificates."""
    candidate = Candidate(line["variant"], line["origin"], line["trial"])
    try:
        expected = summary_row(line["setting"], candidate, rows, line["radii"])
    except ValueError as error:
        yield f"the summary does not follow from the certificates: {error}"
        return
    expected["beats_guessing"] = line["score_low"] > 0
    for name, value in expected.items():
        # Intervals are drawn at random: repeatable here, but perhaps not with a different SciPy.
        if name.startswith("tuning_") or name.endswith(("_low", "_high")):
            continue
        close = isinstance(value, float) and abs(value - line[name]) <= _CLOSE
        if not close and value != line[name]:
            yield f"the summary's {name} is {line[name]}, the certificates' {value}"


def _allowance(metadata: Mapping[str, str], sigma: float) -> float:
    """What is subtracted from a bound under quantised noise: see docs/certification.md."""
    deviation = sigma * int(metadata["pixel_steps"])
    # The most steps of noise whose probability is not 0 in 63 bits.
    reach = math.floor(deviation * float(norm.isf(2.0**-64)) + 0.5)
    return int(metadata["pixels"]) * (2 * reach + 3) * 2.0**-64 + _ROUNDING


def _problems(row: Row, most: int, taken: float) -> Iterator[str]:
    n, votes, alpha, sigma = row["n"], row["votes_top"], row["alpha"], row["sigma"]
    if not (0 <= votes <= n <= most and 0 < alpha < 1 and sigma > 0):
        yield f"{votes} of {n} votes at alpha {alpha} and sigma {sigma} is impossible"
        return
    if row["procedure"] == "adaptive":
        p_lower, proved = row["p_lower"], _decided(row, most, taken)
    else:
        bound = float(beta.ppf(alpha, votes, n - votes + 1)) if votes else 0.0
        p_lower = max(0.0, bound - taken)
        proved = p_lower > 0.5
    radius = sigma * float(norm.ppf(p_lower)) if proved else 0.0
    # An allowance may be less than `_CLOSE`, which would let a bound pass that was not lowered.
    over = row["p_lower"] - p_lower
    if over < -_CLOSE or over > (taken / 2 if taken else _CLOSE):
        yield f"the bound is {row['p_lower']}, recomputed {p_lower}"
    if abs(row["radius"] - radius) > _CLOSE:
        yield f"the radius is {row['radius']}, recomputed {radius}"
    if (row["predicted"] >= 0) != proved:
        yield f"it {'abstains' if proved else 'claims a class'}, contrary to its votes"


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
