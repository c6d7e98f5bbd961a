import random
from pathlib import Path

import pytest

from search_spaces import load_space
from tests.support.ledgers import result
from tuning.search.time_left import remaining_seconds
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

SPACE = load_space("digits")
RUNGS = (25, 75, 200)
WORKERS = 2


def estimates(folder: Path, scheduler: str, seed: int) -> list[tuple[float, float]]:
    """Estimated and real time left after each trial, from the first quarter of the time on.

    Trials as on digits: plain denoising is twice as fast, and early scores are noisy.
    """
    plan = Plan(40, 4, seed, sampler="random", scheduler=scheduler)  # type: ignore[arg-type]
    ledger = Ledger(sqlite_url(folder / "study.db"), f"{seed}", SPACE, plan, RUNGS)
    generator = random.Random(seed)
    clock, found = 0.0, []
    while not ledger.finished:
        proposal = ledger.next_proposal()
        assert proposal is not None
        values = proposal.hyperparameters
        generated = values.w_mmd or values.w_cosine
        score, reached = -abs(values.sigma - 0.3), RUNGS[-1]
        for rung in RUNGS[:-1]:
            if ledger.report(proposal.number, rung, score + generator.gauss(0, 0.1), 0.0):
                reached = rung
                break
        speed = generator.uniform(0.8, 1.2) * (1.0 if generated else 0.5)
        seconds = 10 * speed * reached / RUNGS[-1]
        clock += seconds / WORKERS
        ledger.tell(proposal.number, result(score, reached, seconds))
        left = remaining_seconds([ledger], WORKERS)
        assert left is not None
        found.append((clock, left))
    return [(left, clock - at) for at, left in found if 0.25 * clock <= at <= 0.9 * clock]


@pytest.mark.parametrize(
    ("scheduler", "least"), [("asha", 0.75), ("hyperband", 0.95), ("none", 1.0)]
)
def test_after_a_quarter_most_estimates_are_right_within_a_factor_of_one_and_a_half(
    tmp_path: Path, scheduler: str, least: float
) -> None:
    pairs = [pair for seed in range(5) for pair in estimates(tmp_path, scheduler, seed)]
    right = [left / 1.5 <= real <= 1.5 * left for left, real in pairs]
    assert len(right) > 100
    assert sum(right) >= least * len(right)


def test_nothing_is_known_before_the_first_trial(tmp_path: Path) -> None:
    ledger = Ledger(sqlite_url(tmp_path / "study.db"), "x", SPACE, Plan(4, 4, 0), RUNGS)
    assert remaining_seconds([ledger], 0.0) is None


def test_the_last_trials_leave_workers_idle(tmp_path: Path) -> None:
    plan = Plan(2, 4, 0, scheduler="none")
    ledger = Ledger(sqlite_url(tmp_path / "study.db"), "x", SPACE, plan, RUNGS)
    while ledger.open_points > 1 and (proposal := ledger.next_proposal()):
        ledger.tell(proposal.number, result(0.5, seconds=10.0))
    assert remaining_seconds([ledger], 8.0) == 10.0
    assert remaining_seconds([ledger], 0.5) == 20.0
