"""How long a search will take, estimated from its trials so far."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from tuning.study.attempts import TrialRecord
from tuning.study.choices import SchedulerName
from tuning.study.ledger import Ledger

# The share of trials that continue at a rung: the best third of those that are compared there, and
# more while proposals still improve. Hyperband compares half of them.
EXPECTED_TO_PASS: dict[SchedulerName, float] = {"asha": 0.4, "hyperband": 0.7, "none": 1.0}
# How many trials of the search the prior expectation counts for.
PRIOR_TRIALS = 4


def remaining_seconds(ledgers: Sequence[Ledger], rate: float) -> float | None:
    """Seconds until all `ledgers` are finished, if workers do `rate` seconds of trials a second.

    None as long as no trial has ended.

    Baselines are never pruned, and are expected to cost as much as earlier ones; a trial of the
    search, at first, as much as the published point, in proportion to how far trials get.
    """
    work, trials = 0.0, 0
    for ledger in ledgers:
        records = [r for r in ledger.attempts.records() if r.state != "failed"]
        plain = [r.seconds for r in records if r.is_baseline and r.origin != "published"]
        full = _full_trial(records, plain)
        searched = [r for r in records if not r.is_baseline]
        done = len(records) - len(searched)
        open_baselines = max(0, ledger.points.baselines - done)
        open_searched = max(0, ledger.open_points - open_baselines)
        work += open_baselines * (mean(plain) if plain else full)
        work += open_searched * _searched_trial(searched, full, ledger)
        trials += ledger.open_points
    if not rate:
        return None
    # A worker has at most one trial: the last trials leave other workers idle.
    return work / min(rate, trials) if trials else 0.0


def _searched_trial(searched: Sequence[TrialRecord], full: float, ledger: Ledger) -> float:
    """Expected seconds of a future trial of the search.

    The cost of trials varies too much to average a few of them; the share that continues at a rung
    and the cost of an epoch are known sooner.
    """
    trained = sum(r.epochs for r in searched) / ledger.rungs[-1]
    unpruned = (PRIOR_TRIALS * full + sum(r.seconds for r in searched)) / (PRIOR_TRIALS + trained)
    return unpruned * expected_share(ledger.rungs, ledger.plan.scheduler, searched)


def expected_share(
    rungs: Sequence[int], scheduler: SchedulerName, searched: Sequence[TrialRecord] = ()
) -> float:
    """The share of its epochs that a trial is expected to be trained for, given earlier ones."""
    *rungs, epochs = rungs
    expected = PRIOR_TRIALS * EXPECTED_TO_PASS[scheduler]
    share, alive, before = 0.0, 1.0, 0
    for rung in rungs:
        share += alive * (rung - before) / epochs
        reached = [r for r in searched if r.epochs >= rung]
        went_on = sum(r.epochs > rung for r in reached)
        alive *= (expected + went_on) / (PRIOR_TRIALS + len(reached))
        before = rung
    return share + alive * (epochs - before) / epochs


def _full_trial(records: Sequence[TrialRecord], plain: Sequence[float]) -> float:
    """Seconds of the published point, or of plain baselines before it has ended."""
    published = [r.seconds for r in records if r.origin == "published"]
    return mean(published or plain or [0.0])
