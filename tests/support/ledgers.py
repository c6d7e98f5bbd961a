"""Ledgers whose trials nobody trains."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from search_spaces import load_space
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.plan import Plan, Proposal

SPACE = load_space("digits")
BASELINES = 1 + 2 * len(SPACE.sweep)
RUNGS = (25, 75, 200)
Score = Callable[[dict[str, object]], float]


def open_ledger(
    folder: Path, trials: int = 8, cohort: int = 3, seed: int = 1, **options: Any
) -> Ledger:
    planned = ("sampler", "scheduler", "pareto")
    given = {name: options.pop(name) for name in planned if name in options}
    plan = Plan(trials, cohort, seed, **given)
    options = {"name": "digits", "space": SPACE} | options
    return Ledger(sqlite_url(folder / "study.db"), plan=plan, rungs=RUNGS, **options)


def sigma_of(hyperparameters: dict[str, object]) -> float:
    sigma = hyperparameters["sigma"]
    assert isinstance(sigma, float)
    return sigma


def by_sigma(hyperparameters: dict[str, object]) -> float:
    return 1 - (sigma_of(hyperparameters) - 0.3) ** 2


def finish(ledger: Ledger, proposal: Proposal, score: Score = by_sigma) -> None:
    """Run one trial to its end, as a worker would: a rung at 25 epochs, the end at 200."""
    value = score(proposal.hyperparameters)
    pruned = ledger.report(proposal.number, 25, value - 0.1, 0.5)
    ledger.tell(
        proposal.number,
        objective=value - 0.1 if pruned else value,
        epochs=25 if pruned else 200,
        complete=not pruned,
        seconds=1.5,
        node="10.0.0.1",
        accuracy=1 - sigma_of(proposal.hyperparameters),
    )


def drive(ledger: Ledger, workers: int, last_first: bool = False, stop_after: int = 10**9) -> None:
    """Run trials on so many workers; the first or the last one started ends first."""
    running: list[Proposal] = []
    for _ in range(stop_after):
        while len(running) < workers and (proposal := ledger.next_proposal()):
            running.append(proposal)
        if not running:
            return
        finish(ledger, running.pop(-1 if last_first else 0))


def outcomes(ledger: Ledger) -> dict[int, tuple[str, dict[str, object], int]]:
    settled = [r for r in ledger.records() if not r.error]
    return {r.root: (r.state, r.hyperparameters, r.seed) for r in settled}
