"""A search of trials that train nothing, on a ledger that holds others already."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from benchmarks.driver.cluster import cluster_of
from benchmarks.driver.costs import Cost, Meter, Shares, memory
from benchmarks.driver.nothing import RUNGS, reporting
from search_spaces import load_space
from trainables.decrop.config import DecropConfig
from tuning.cluster.connection import Cluster
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search.checkpoints import Scratch
from tuning.search.search import Part, SearchProgress, search
from tuning.search.searcher import LedgerSearcher
from tuning.search.trials_table import TrialsTable
from tuning.search.tune import LedgerScheduler
from tuning.setting.setting import make_settings
from tuning.study.database import open_database, sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.optuna_internals import EventStorage
from tuning.study.points import Plan, compared
from tuning.study.proposer import Proposer

SPACE = load_space("digits")
BASELINES = 1 + len(compared(SPACE))
# Of the driver; the rest is Tune's and Ray's.
PARTS = ("proposals", "database", "TensorBoard", "table", "progress", "files", "ledger")


def fill(database: Path, trials: int) -> None:
    """Make a ledger that holds this many finished trials, at random points."""
    Ledger(sqlite_url(database), "x", SPACE, Plan(trials, 1, 0), RUNGS)
    storage = open_database(sqlite_url(database))
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
    kept = optuna.load_study(study_name="x", storage=storage)
    points = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for root in range(trials):
        trial = points.ask()
        config = DecropConfig.model_validate({**SPACE.suggest(trial), "w_label": 1.0})
        score = 1 - (config.sigma - 0.3) ** 2
        rungs = RUNGS if root % 3 == 0 else RUNGS[:1]
        kept.add_trial(
            optuna.trial.create_trial(
                state=TrialState.COMPLETE if rungs == RUNGS else TrialState.PRUNED,
                values=[score] if rungs == RUNGS else None,
                params=trial.params,
                distributions=trial.distributions,
                intermediate_values={epochs: score * epochs / RUNGS[-1] for epochs in rungs},
                user_attrs={
                    "root": root,
                    "origin": "search" if root else "published",
                    "seed": root,
                    "durations": list(RUNGS),
                    "hyperparameters": config.model_dump(),
                    "result": {"epochs": rungs[-1], "seconds": 60.0, "node": "10.0.0.1"},
                },
            )
        )


def charged() -> Shares:
    """Time the parts of the driver in all searches from now on."""
    shares = Shares()
    shares.charge("proposals", Proposer, "propose")
    shares.charge("database", EventStorage, "start", "report", "tell")
    shares.charge("TensorBoard", StudyBoard, "result", "end")
    shares.charge("table", TrialsTable, "update")
    shares.charge("progress", SearchProgress, "show")
    shares.charge("files", Scratch, "checkpoints", "ended")
    shares.charge("ledger", LedgerSearcher, "suggest")
    shares.charge("ledger", LedgerScheduler, "on_trial_result", "on_trial_complete")
    return shares


def cost_of_trials(filled: Path, workers: int, trials: int, losses: int, shares: Shares) -> Cost:
    """Run trials on a copy of a filled ledger: CPU milliseconds of each, and MB of the driver."""
    with tempfile.TemporaryDirectory() as name, cluster_of(workers):
        folder = Path(name)
        ledger = _extended(Path(shutil.copy(filled, folder / "study.db")), workers, trials)
        config = RunConfig(name="scale", out=folder, space="digits")
        (made,) = make_settings(config)
        setting = replace(made, name="x", folder=folder)
        # A trainable that trains nothing needs neither.
        access: Any = None
        task: Any = None
        meter = Meter(shares, workers)
        cluster = Cluster("", None, Resources(1, 0.0, workers), local_storage(folder))
        part = Part(setting, access, ledger, task, StudyBoard(folder / "tensorboard"))
        search([part], Context(config, cluster, meter), reporting(losses))
        assert ledger.finished
        return {**meter.per_trial(), "MB": memory()}


def _extended(database: Path, workers: int, trials: int) -> Ledger:
    """A filled ledger with `trials` open points, for so many workers."""
    url = sqlite_url(database)
    storage = RDBStorage(url)
    kept = storage.get_study_id_from_name("x")
    storage.set_study_user_attr(kept, "virtual_workers", 2 * workers)
    roots = storage.get_n_trials(kept) + trials
    return Ledger(url, "x", SPACE, Plan(roots - BASELINES + 1, 2 * workers, 0), RUNGS)
