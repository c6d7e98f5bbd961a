import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray.tune.search import Searcher

from search_spaces import load_space
from tests.support.ledgers import result
from tuning.cluster.storage import local_storage
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.budget import Limits
from tuning.search.checkpoints import Scratch
from tuning.search.paused import PausedTrials
from tuning.search.searcher import LedgerSearcher, Study
from tuning.study.database import sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

SPACE = load_space("digits")
RUNGS = (25, 75, 200)
NEVER = Limits()


def searching(
    studies: list[Study],
    folder: Path,
    *,
    limits: Limits = NEVER,
    transfer: int = 0,
    workers: Callable[[], int] = lambda: 100,
) -> LedgerSearcher:
    paused = PausedTrials({study.setting: study.ledger for study in studies}, workers)
    return LedgerSearcher(studies, limits, transfer, Scratch(local_storage(folder)), paused)


def open_study(folder: Path, name: str = "x", trials: int = 8, source: str | None = None) -> Study:
    """A study whose trials nobody runs: it only needs a ledger."""
    ledger = Ledger(
        sqlite_url(folder / "study.db"),
        name,
        SPACE,
        Plan(trials, virtual_workers=4, seed=0, awaits_transfer=source is not None),
        RUNGS,
    )
    nobody: Any = None
    board = StudyBoard(folder / "tensorboard" / name)
    return Study(name, ledger, nobody, board, lambda: None, source)


def end(study: Study, config: dict[str, Any], objective: float = 0.1) -> None:
    study.ledger.tell(config["number"], result(objective, seconds=2.0))


def drain(
    searcher: LedgerSearcher,
    studies: list[Study],
    score: Callable[[dict[str, Any]], float] = lambda config: 0.1,
) -> list[dict[str, Any]]:
    """Run all proposals one after the other: their configurations."""
    by_name = {study.setting: study for study in studies}
    configs: list[dict[str, Any]] = []
    while isinstance(config := searcher.suggest(f"t{len(configs)}"), dict):
        configs.append(config)
        end(by_name[config["setting"]], config, score(config))
    assert config == Searcher.FINISHED
    return configs


def test_after_the_deadline_only_the_baselines_are_started(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    late = Limits(deadline=time.monotonic() - 1)
    configs = drain(searching([study], tmp_path, limits=late), [study])
    assert len(configs) == study.ledger.points.baselines
    assert not study.ledger.finished


@pytest.mark.parametrize(("devices", "more"), [(1.0, 1), (0.25, 7)])
def test_the_device_budget_counts_the_seconds_of_all_trials(
    tmp_path: Path, devices: float, more: int
) -> None:
    study = open_study(tmp_path)
    baselines = study.ledger.points.baselines
    # Each trial takes two seconds.
    limits = Limits(device_seconds=2.0 * baselines + 1, devices_per_trial=devices)
    configs = drain(searching([study], tmp_path, limits=limits), [study])
    spent = 2.0 * devices * len(configs)
    assert study.ledger.seconds == 2.0 * len(configs)
    assert spent >= (limits.device_seconds or 0) or study.ledger.finished
    assert len(configs) <= baselines + more


def test_a_resumed_search_knows_the_seconds_spent_before(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    drain(searching([study], tmp_path, limits=Limits(device_seconds=1.0)), [study])
    assert open_study(tmp_path).ledger.seconds == 2.0 * study.ledger.points.baselines


def test_no_more_trials_are_under_way_than_virtual_workers(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    searcher = searching([study], tmp_path)
    started = [searcher.suggest(f"t{i}") for i in range(4)]
    assert all(isinstance(config, dict) for config in started)
    assert searcher.suggest("one more") is None


def test_no_more_trials_start_than_there_are_workers(tmp_path: Path) -> None:
    study, workers = open_study(tmp_path), [2]
    searcher = searching([study], tmp_path, workers=lambda: workers[0])
    first, _ = (searcher.suggest(f"t{i}") for i in range(2))
    assert searcher.suggest("of a third worker") is None
    end(study, first)
    assert isinstance(searcher.suggest("in its place"), dict)
    workers[0] = 3
    assert isinstance(searcher.suggest("on a host that came late"), dict)
    assert searcher.suggest("of a fourth worker") is None


def test_settings_take_turns(tmp_path: Path) -> None:
    studies = [open_study(tmp_path, name) for name in ("a", "b", "c")]
    searcher = searching(studies, tmp_path)
    first = [searcher.suggest(f"t{i}")["setting"] for i in range(9)]
    assert first == ["a", "b", "c"] * 3


def test_one_setting_fills_the_pause_of_another(tmp_path: Path) -> None:
    one, two = open_study(tmp_path, "a"), open_study(tmp_path, "b")
    searcher = searching([one, two], tmp_path)
    started = [searcher.suggest(f"t{i}") for i in range(8)]
    assert searcher.suggest("wait") is None
    for config in started:
        if config["setting"] == "a":
            end(one, config)
    assert searcher.suggest("next")["setting"] == "a"


def test_a_finished_setting_passes_its_best_points_on(tmp_path: Path) -> None:
    source, neighbour = open_study(tmp_path, "a"), open_study(tmp_path, "b", source="a")
    studies = [source, neighbour]
    baselines = source.ledger.points.baselines

    def score(config: dict[str, Any]) -> float:
        # Those that every setting evaluates need not be passed on, however good they are.
        sigma: float = config["hyperparameters"].sigma
        return (2 if config["number"] < baselines else 1) - sigma

    searcher = searching(studies, tmp_path, transfer=2)
    configs = drain(searcher, studies, score)
    searched = [r for r in source.ledger.attempts.records() if not r.is_baseline]
    best = sorted((r.hyperparameters for r in searched), key=lambda values: values.sigma)[:2]
    records = [r for r in neighbour.ledger.attempts.records() if r.origin == "transferred"]
    assert [r.hyperparameters for r in records] == best
    # They come before any proposal, and after the neighbour's source has ended.
    of_neighbour = [r.origin for r in neighbour.ledger.attempts.records() if not r.is_baseline]
    assert of_neighbour == ["start", "transferred", "transferred", *4 * ["search"]]
    last_of_source = max(i for i, c in enumerate(configs) if c["setting"] == "a")
    others = [
        i
        for i, c in enumerate(configs)
        if c["setting"] == "b" and c["number"] >= neighbour.ledger.points.baselines
    ]
    assert min(others) > last_of_source


def test_proposed_configuration_is_a_full_set_of_hyperparameters(tmp_path: Path) -> None:
    config = searching([open_study(tmp_path)], tmp_path).suggest("t0")
    assert config["setting"] == "x"
    assert config["hyperparameters"].depth == SPACE.fixed["depth"]
    assert config["hyperparameters"].w_mmd == SPACE.published["w_mmd"]
    assert config["hyperparameters"].weight_decay == 1e-4


def test_nothing_of_the_ledger_reaches_ray_files(tmp_path: Path) -> None:
    searcher = searching([open_study(tmp_path)], tmp_path)
    assert str(tmp_path).encode() not in pickle.dumps(searcher)
