import random
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.disorder import Disorder, Outcome
from tests.support.ledgers import BASELINES, RUNGS, open_ledger
from trainables.decrop.config import DecropConfig
from tuning.study.ledger import Ledger

TRIALS = 16
KINDS: dict[str, dict[str, Any]] = {
    "random": {"sampler": "random"},
    "tpe": {"sampler": "tpe"},
    "hyperband": {"sampler": "random", "scheduler": "hyperband"},
    "none": {"sampler": "random", "scheduler": "none"},
    "pareto": {"sampler": "random", "scheduler": "none", "pareto": True},
}
EXPECTED: dict[str, dict[int, Outcome]] = {}


def durations(config: DecropConfig) -> list[float]:
    """Of very different lengths, most of it before the first rung: points overtake one another."""
    length = (0.2 + config.sigma) * (1 + 3 * (config.w_mmd > 2))
    return [length * (1 + rung / RUNGS[-1]) for rung in RUNGS]


def opened(folder: str, kind: str) -> Callable[[], Ledger]:
    return lambda: open_ledger(
        Path(folder), TRIALS, virtual_workers=5, durations=durations, **KINDS[kind]
    )


def expected(kind: str) -> dict[int, Outcome]:
    """What one worker makes of a study that nothing happens to."""
    if kind not in EXPECTED:
        with TemporaryDirectory() as folder:
            EXPECTED[kind] = Disorder(opened(folder, kind), 1, random.Random(0)).finish(trouble=0)
    return EXPECTED[kind]


@pytest.mark.parametrize("kind", ["random", "hyperband", "none", "pareto"])
@given(workers=st.integers(1, 9), seed=st.integers(0, 10**9))
@settings(max_examples=3, deadline=None)
def test_trials_and_pruning_depend_on_the_results_alone(kind: str, workers: int, seed: int) -> None:
    with TemporaryDirectory() as folder:
        disorder = Disorder(opened(folder, kind), workers, random.Random(seed))
        assert disorder.finish() == expected(kind)


@pytest.mark.parametrize("workers", [2, 4, 8])
def test_what_tpe_proposes_depends_on_the_results_alone(workers: int) -> None:
    with TemporaryDirectory() as folder:
        chance = random.Random(workers)
        assert Disorder(opened(folder, "tpe"), workers, chance).finish() == expected("tpe")


def test_the_studies_of_these_tests_prune() -> None:
    for kind in ("random", "tpe", "hyperband"):
        states = [state for state, *_ in expected(kind).values()]
        assert len(states) == BASELINES + TRIALS - 1
        assert {"PRUNED", "COMPLETE"} <= set(states)


@pytest.mark.parametrize("kind", ["random", "tpe", "hyperband"])
def test_a_longer_study_begins_like_a_shorter_one(kind: str) -> None:
    given = KINDS[kind]

    def shorter() -> Ledger:
        return open_ledger(
            Path(folder), TRIALS - 5, virtual_workers=5, durations=durations, **given
        )

    with TemporaryDirectory() as folder:
        first = Disorder(shorter, 3, random.Random(1)).finish()
        assert first == {root: expected(kind)[root] for root in first}
        assert Disorder(opened(folder, kind), 3, random.Random(2)).finish() == expected(kind)
