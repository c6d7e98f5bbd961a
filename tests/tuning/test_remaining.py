import random
from pathlib import Path

import pytest

from search_spaces import load_space
from tuning.ledger import Ledger, Plan, sqlite_url
from tuning.remaining import expected_share, remaining_seconds

SPACE = load_space("digits")
RUNGS = (25, 75, 200)
WORKERS = 2


def test_a_third_of_a_third_is_trained_to_the_end() -> None:
    assert expected_share(RUNGS) == pytest.approx((25 + 50 / 3 + 125 / 9) / 200)
    assert expected_share((200,)) == 1


@pytest.mark.parametrize("scheduler", ["asha", "none"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_after_a_quarter_the_estimate_is_right_within_a_factor_of_one_and_a_half(
    tmp_path: Path, scheduler: str, seed: int
) -> None:
    """Trials as on digits: plain denoising is twice as fast, and times vary by a third."""
    plan = Plan(40, 4, seed, scheduler=scheduler)  # type: ignore[arg-type]
    ledger = Ledger(sqlite_url(tmp_path / "study.db"), "x", SPACE, plan, RUNGS)
    generator = random.Random(seed)
    clock, estimates = 0.0, []
    while not ledger.finished:
        proposal = ledger.next_proposal()
        assert proposal is not None
        values = proposal.hyperparameters
        speed = generator.uniform(0.8, 1.2) * (
            1.0 if values["w_mmd"] or values["w_cosine"] else 0.5
        )
        score = -((values["sigma"] - 0.3) ** 2) + generator.gauss(0, 0.005)
        reached = RUNGS[-1]
        for rung in RUNGS[:-1]:
            if ledger.report(proposal.number, rung, score, 0.0):
                reached = rung
                break
        seconds = 10 * speed * reached / RUNGS[-1]
        clock += seconds / WORKERS
        ledger.tell(
            proposal.number, objective=score, epochs=reached, complete=reached == RUNGS[-1],
            seconds=seconds, node="",
        )  # fmt: skip
        left = remaining_seconds([ledger], WORKERS)
        assert left is not None
        estimates.append((clock, left))
    for at, left in estimates:
        if 0.25 * clock <= at <= 0.9 * clock:
            assert (clock - at) / 1.5 <= left <= (clock - at) * 1.5


def test_nothing_is_known_before_the_first_trial(tmp_path: Path) -> None:
    ledger = Ledger(sqlite_url(tmp_path / "study.db"), "x", SPACE, Plan(4, 4, 0), RUNGS)
    assert remaining_seconds([ledger], 0.0) is None
