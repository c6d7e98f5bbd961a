"""How long a search is going to take, from what its trials took so far."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from tuning.ledger import Ledger
from tuning.pruning import SchedulerName
from tuning.records import TrialRecord

# The share of a trial of the search that is trained on average; under ASHA, 0.3 to 0.75 were seen.
EXPECTED_SHARE: dict[SchedulerName, float] = {"asha": 0.4, "hyperband": 0.75, "none": 1.0}
# How many trials this expectation counts for, beside what trials really took.
PRIOR_TRIALS = 4


def remaining_seconds(ledgers: Sequence[Ledger], rate: float) -> float | None:
    """Seconds until all `ledgers` are finished, if workers do `rate` seconds of trials a second.

    None as long as no trial has ended.

    Trials of the baselines are never pruned and cost what those before them did; a trial of the
    search costs, to begin with, the published point's time less what pruning saves.
    """
    work, trials = 0.0, 0
    for ledger in ledgers:
        records = [r for r in ledger.records() if r.state != "failed"]
        plain = [r.seconds for r in records if r.is_baseline and r.origin != "published"]
        full = _full_trial(records, plain)
        searched = [r.seconds for r in records if not r.is_baseline]
        expected = full * EXPECTED_SHARE[ledger.plan.scheduler]
        each = (PRIOR_TRIALS * expected + sum(searched)) / (PRIOR_TRIALS + len(searched))
        done = sum(r.is_baseline for r in records)
        open_baselines = max(0, ledger.baselines - done)
        open_searched = max(0, ledger.open_roots - open_baselines)
        work += open_baselines * (mean(plain) if plain else full) + open_searched * each
        trials += ledger.open_roots
    if not rate:
        return None
    # No worker has more than one trial: the last ones leave others idle.
    return work / min(rate, trials) if trials else 0.0


def _full_trial(records: Sequence[TrialRecord], plain: Sequence[float]) -> float:
    """Seconds of the published point; before it is there, of what is."""
    published = [r.seconds for r in records if r.origin == "published"]
    return mean(published or plain or [0.0])
