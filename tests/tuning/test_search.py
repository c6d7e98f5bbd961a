import pickle
import time
from pathlib import Path

from ray.tune.search import Searcher

from search_spaces import load_space
from tuning.ledger import Ledger, sqlite_url
from tuning.search import LedgerSearcher

SPACE = load_space("digits")


def open_ledger(folder: Path, trials: int = 8) -> Ledger:
    url = sqlite_url(folder / "study.db")
    return Ledger(url, "x", SPACE, trials=trials, cohort=4, seed=0)


def test_after_the_deadline_only_the_baselines_are_started(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    searcher = LedgerSearcher(ledger, deadline=time.monotonic() - 1)
    started = 0
    while isinstance(config := searcher.suggest(f"t{started}"), dict):
        started += 1
        ledger.tell(
            config["number"], objective=0.1, epochs=200, complete=True, seconds=1.0, node="n"
        )
    assert config == Searcher.FINISHED
    assert started == ledger.baselines
    assert not ledger.finished


def test_searcher_waits_for_the_running_cohort(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path)
    searcher = LedgerSearcher(ledger, deadline=None)
    started = [searcher.suggest(f"t{i}") for i in range(ledger.baselines)]
    assert all(isinstance(config, dict) for config in started)
    assert searcher.suggest("one more") is None


def test_proposed_configuration_is_a_full_set_of_hyperparameters(tmp_path: Path) -> None:
    config = LedgerSearcher(open_ledger(tmp_path), deadline=None).suggest("t0")
    assert config["hyperparameters"]["depth"] == SPACE.fixed["depth"]
    assert config["hyperparameters"]["w_mmd"] == SPACE.published["w_mmd"]
    assert config["hyperparameters"]["weight_decay"] == 1e-4


def test_nothing_of_the_ledger_reaches_ray_files(tmp_path: Path) -> None:
    searcher = LedgerSearcher(open_ledger(tmp_path), deadline=None)
    assert str(tmp_path).encode() not in pickle.dumps(searcher)
