"""Ledgers whose trials nobody trains."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from search_spaces import load_space
from trainables.decrop.config import DecropConfig
from tuning.study.attempts import TrialResult
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan, Proposal

SPACE = load_space("digits")
# Published, and two kinds of plain denoised smoothing, each at every sigma.
BASELINES = 3 * len(SPACE.sweep)
RUNGS = (25, 75, 200)
Score = Callable[[DecropConfig], float]


def open_ledger(
    folder: Path, trials: int = 8, virtual_workers: int = 3, seed: int = 1, **options: Any
) -> Ledger:
    planned = ("sampler", "scheduler", "pareto", "awaits_transfer", "durations", "objective")
    given = {name: options.pop(name) for name in planned if name in options}
    plan = Plan(trials, virtual_workers, seed, **given)
    options = {"name": "digits", "space": SPACE, **options}
    return Ledger(sqlite_url(folder / "study.db"), plan=plan, rungs=RUNGS, **options)


def by_sigma(hyperparameters: DecropConfig) -> float:
    return 1 - (hyperparameters.sigma - 0.3) ** 2


def result(
    objective: float | None, epochs: int = RUNGS[-1], seconds: float = 1.5, **options: Any
) -> TrialResult:
    """What a worker tells of a trial; with so many epochs, of one that trained to its end."""
    return TrialResult(objective, epochs, seconds, node="10.0.0.1", **options)


def finish(ledger: Ledger, proposal: Proposal, score: Score = by_sigma) -> bool:
    """Run one trial, as a worker would; False if it must wait at its rung, at 25 epochs."""
    value = score(proposal.hyperparameters)
    pruned = ledger.report(proposal.number, 25, value - 0.1, 0.5)
    if pruned is not None:
        end(ledger, proposal, pruned, score)
    return pruned is not None


def end(ledger: Ledger, proposal: Proposal, pruned: bool, score: Score = by_sigma) -> None:
    """End a trial at its rung, or after it."""
    value, accuracy = score(proposal.hyperparameters), 1 - proposal.hyperparameters.sigma
    if pruned:
        ledger.tell(proposal.number, result(value - 0.1, 25, accuracy=accuracy))
    else:
        ledger.tell(proposal.number, result(value, accuracy=accuracy))


def drive(
    ledger: Ledger,
    workers: int,
    last_first: bool = False,
    stop_after: int = 10**9,
    score: Score = by_sigma,
) -> None:
    """Run trials on so many workers; the first or the last one started reaches its rung first."""
    running: list[Proposal] = []
    waiting: list[Proposal] = []
    for _ in range(stop_after):
        while len(running) < workers and (proposal := ledger.next_proposal()):
            running.append(proposal)
        if not running:
            assert not waiting
            return
        proposal = running.pop(-1 if last_first else 0)
        if not finish(ledger, proposal, score):
            waiting.append(proposal)
        for paused in list(waiting):
            pruned = ledger.decision(paused.number)
            if pruned is not None:
                waiting.remove(paused)
                end(ledger, paused, pruned, score)


def outcomes(ledger: Ledger) -> dict[int, tuple[str, DecropConfig, int]]:
    """By root, what its attempt that was not interrupted came to."""
    settled = [r for r in ledger.attempts.records() if not r.error]
    return {r.root: (r.state, r.hyperparameters, r.seed) for r in settled}


@cache
def undisturbed(**options: Any) -> dict[int, tuple[str, DecropConfig, int]]:
    """The outcomes of a ledger that two workers finish and nothing happens to."""
    with TemporaryDirectory() as folder:
        ledger = open_ledger(Path(folder), **options)
        drive(ledger, workers=2)
        return outcomes(ledger)
