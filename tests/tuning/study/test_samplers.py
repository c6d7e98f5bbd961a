from pathlib import Path
from typing import Any

import optuna
import pytest

from search_spaces import SearchSpace
from tests.support.ledgers import BASELINES, SPACE, drive, open_ledger, outcomes
from tuning.errors import ConfigError
from tuning.study.samplers import check_sampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


RANGES = {"sigma", "mix", "learning_rate"}
RANGES_ALONE = SPACE.holding(
    {n: SPACE.published[n] for n in SPACE.parameters if n not in RANGES}
).model_copy(update={"start": ()})


@pytest.mark.parametrize(
    ("sampler", "space"),
    [("gp", SPACE), ("random", SPACE), ("tpe", SPACE), ("cmaes", RANGES_ALONE)],
    ids=["gp", "random", "tpe", "cmaes"],
)
def test_samplers_propose_within_the_space_and_resume(
    tmp_path: Path, sampler: str, space: SearchSpace
) -> None:
    (tmp_path / "killed").mkdir()
    options: dict[str, Any] = {"trials": 28, "sampler": sampler, "space": space}
    if sampler == "gp":
        # A second each.
        options["trials"] = 6
    whole = open_ledger(tmp_path, **options)
    drive(whole, workers=2)
    drive(open_ledger(tmp_path / "killed", **options), 2, stop_after=BASELINES + 2)
    resumed = open_ledger(tmp_path / "killed", **options)
    resumed.reconcile()
    drive(resumed, workers=2)
    assert outcomes(resumed) == outcomes(whole)
    for record in whole.attempts.records():
        values = record.hyperparameters.model_dump()
        assert all(values[n] in p for n, p in space.parameters.items() if not p.when)


def test_cmaes_comes_closer_to_the_best_sigma(tmp_path: Path) -> None:
    check_sampler("cmaes", RANGES_ALONE)
    ledger = open_ledger(
        tmp_path,
        trials=110,
        virtual_workers=6,
        space=RANGES_ALONE,
        sampler="cmaes",
        # It learns from complete trials only.
        scheduler="none",
    )
    drive(ledger, workers=6)
    sigmas = [r.hyperparameters.sigma for r in ledger.attempts.records() if r.origin == "search"]
    far = [abs(s - 0.3) for s in sigmas]
    assert sum(far[-20:]) < 0.55 * sum(far[:20])


def test_cmaes_is_refused_where_the_space_has_choices() -> None:
    with pytest.raises(ConfigError, match=r"--sampler: cmaes .* schedule"):
        check_sampler("cmaes", SPACE)
