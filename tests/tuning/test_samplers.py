from pathlib import Path

import optuna
import pytest

from tests.tuning.ledgers import (
    BASELINES,
    SPACE,
    drive,
    open_ledger,
    outcomes,
)
from tuning.errors import ConfigError
from tuning.ledger import Ledger
from tuning.samplers import check_sampler

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("sampler", ["gp", "random", "tpe"])
def test_samplers_propose_within_the_space_and_resume(tmp_path: Path, sampler: str) -> None:
    (tmp_path / "killed").mkdir()
    whole = open_ledger(tmp_path, trials=13, sampler=sampler)
    drive(whole, workers=2)
    drive(open_ledger(tmp_path / "killed", trials=13, sampler=sampler), 2, stop_after=16)
    resumed = open_ledger(tmp_path / "killed", trials=13, sampler=sampler)
    resumed.reconcile()
    drive(resumed, workers=2)
    assert outcomes(resumed) == outcomes(whole)
    for record in whole.records():
        assert all(
            record.hyperparameters[n] in p for n, p in SPACE.parameters.items() if not p.when
        )


def test_cmaes_learns_from_trials_before_a_resumption(tmp_path: Path) -> None:
    ranges = {"sigma", "mix", "learning_rate"}
    fixed = {n: SPACE.published[n] for n in SPACE.parameters if n not in ranges}
    space = SPACE.holding(fixed).model_copy(update={"start": ()})
    check_sampler("cmaes", space)

    def open_cmaes() -> Ledger:
        return open_ledger(tmp_path, trials=80, cohort=6, space=space, sampler="cmaes")

    drive(open_cmaes(), workers=6, stop_after=BASELINES + 40)
    resumed = open_cmaes()
    resumed.reconcile()
    drive(resumed, workers=6)
    sigmas = [float(r.hyperparameters["sigma"]) for r in resumed.records() if r.origin == "search"]
    far = [abs(s - 0.3) for s in sigmas]
    assert sum(far[-20:]) < 0.5 * sum(far[:20])


def test_cmaes_is_refused_where_the_space_has_choices() -> None:
    with pytest.raises(ConfigError, match=r"--sampler: cmaes .* schedule"):
        check_sampler("cmaes", SPACE)
