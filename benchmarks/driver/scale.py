"""What the driver of a large run does: trials and votes that cost nothing, on pretended cores.

Usage: python -m benchmarks.driver.scale [--workers 8,32,128] [--ledger-trials 10000] [--trials 256]

Trials run through `tuning.search.search.search`, with its ledger, table, metrics and TensorBoard,
after
`--ledger-trials` others that the ledger holds already. There are four cohorts of them at least; the
first, while workers start, is not counted. Vote tasks count nothing and say that they took a
second; as many are in flight as for so many workers. What is measured is the CPU time of this
process: a machine with fewer cores than it pretends to have says nothing by its clock. It has a
core of its own, which on a cluster it does not share with hundreds of workers either.
"""

import argparse
import contextlib
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import ray
import torch
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from torch import nn

from benchmarks.driver.costs import PARTS, Meter, Shares, memory, spent
from benchmarks.driver.nothing import RUNGS, Nothing
from search_spaces import load_space
from trainables.decrop.config import DecropConfig
from trainables.smoothing.certify import certifying
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from tuning.cluster.connection import OBJECT_STORE_BYTES, Cluster
from tuning.cluster.context import Context
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import RunConfig
from tuning.monitoring.tensorboard import StudyBoard
from tuning.search import search as grid
from tuning.search.checkpoints import Scratch
from tuning.search.trials_table import TrialsTable
from tuning.search.tune import LedgerScheduler, LedgerSearcher, run_search
from tuning.study.database import open_database, sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.optuna_internals import EventStorage
from tuning.study.points import Plan
from tuning.study.proposer import Proposer
from tuning.votes import collector as votes
from tuning.votes.job import VoteJob
from tuning.votes.store import Counts, VoteKey, VoteStore

SPACE = load_space("digits")
BASELINES = 1 + 2 * len(SPACE.sweep)
VOTE_PARTS = ("submission", "database", "metrics")
# What the tasks say that count nothing.
VOTES_PER_SECOND = 10_000
N, SIGMA, CLASSES = 10_000, 0.25, 10
IMAGES = 2000
# Images and votes each, for what the driver holds of them; the first certification warms up.
SIZES = ((500, 10_000), (500, 10_000), (500, 100_000), (5000, 10_000))
# A few serve a queue for many: they count nothing.
REAL_WORKERS = 2


@contextlib.contextmanager
def cluster_of(cores: int) -> Iterator[None]:
    """A Ray that pretends to have so many cores."""
    options = {"include_dashboard": False, "log_to_driver": False}
    own, *others = everywhere = sorted(os.sched_getaffinity(0))
    # Processes of Ray inherit where this thread may run.
    run_on(others or [own])
    ray.init("local", num_cpus=cores, object_store_memory=OBJECT_STORE_BYTES, **options)
    run_on([own])
    try:
        yield
    finally:
        ray.shutdown()
        run_on(everywhere)


def run_on(cores: Sequence[int]) -> None:
    """Let the threads of this process run only on these cores."""
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(thread), cores)


def fill(database: Path, trials: int) -> None:
    """Make a ledger that holds so many finished trials, at random points."""
    Ledger(sqlite_url(database), "x", SPACE, Plan(trials, 1, 0), RUNGS)
    storage = open_database(sqlite_url(database))
    with storage.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA synchronous = OFF")
    kept = optuna.load_study(study_name="x", storage=storage)
    points = optuna.create_study(sampler=optuna.samplers.RandomSampler(0))
    for root in range(trials):
        trial = points.ask()
        values = {**SPACE.suggest(trial), "w_label": 1.0}
        score = 1 - (values["sigma"] - 0.3) ** 2
        rungs = RUNGS if root % 3 == 0 else RUNGS[:1]
        result = {"epochs": rungs[-1], "seconds": 60.0, "node": "10.0.0.1", "error": ""}
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
                    "hyperparameters": DecropConfig.model_validate(values).model_dump(),
                    "result": result,
                },
            )
        )


def charge_driver(shares: Shares) -> None:
    """Tell the parts of the driver of a search from each other; the rest is Tune's and Ray's."""
    shares.charge("proposals", Proposer, "learn", "recall", "propose")
    shares.charge("database", EventStorage, "start", "report", "tell")
    shares.charge("TensorBoard", StudyBoard, "result", "end")
    shares.charge("table", TrialsTable, "update")
    shares.charge("progress", grid, "remaining_seconds", "trial_ended")
    shares.charge("files", Scratch, "checkpoints", "ended")
    shares.charge("ledger", LedgerSearcher, "suggest")
    shares.charge("ledger", LedgerScheduler, "on_trial_result", "on_trial_complete")


def search(filled: Path, workers: int, trials: int, terms: int, shares: Shares) -> dict[str, float]:
    """Run trials on a copy of a filled ledger; what one costs, and what the driver holds."""
    with tempfile.TemporaryDirectory() as name, cluster_of(workers):
        folder = Path(name)
        url = sqlite_url(Path(shutil.copy(filled, folder / "study.db")))
        storage = RDBStorage(url)
        kept = storage.get_study_id_from_name("x")
        storage.set_study_user_attr(kept, "cohort", workers)
        roots = storage.get_n_trials(kept) + trials
        plan = Plan(roots - BASELINES + 1, workers, 0)
        ledger = Ledger(url, "x", SPACE, plan, RUNGS)
        setting: Any = SimpleNamespace(
            name="x", space=SPACE, folder=folder, dataset=SimpleNamespace(name="digits")
        )
        nobody: Any = None
        task: Any = terms
        meter: Any = Meter(shares, workers)
        context = Context(
            RunConfig(name="scale", out=folder, trials=plan.trials),
            Cluster("", None, Resources(1, 0.0, workers), local_storage(folder)),
            meter,
        )
        board = StudyBoard(folder / "tensorboard")
        grid.search([grid.Part(setting, nobody, ledger, task, board)], context)
        assert ledger.finished
        return {**meter.per_trial(), "MB": memory()}


@ray.remote(max_retries=3)
def count_nothing(
    model: nn.Module, images: Sequence[torch.Tensor], keys: Sequence[VoteKey], resources: Resources
) -> list[Counts]:
    """In place of the task that counts votes."""
    sizes = [key.stop - key.start for key in keys]
    return [Counts([n] + [0] * (CLASSES - 1), n / VOTES_PER_SECOND, "10.0.0.1") for n in sizes]


def charge_votes(shares: Shares) -> None:
    """The parts of the driver while votes are counted; the rest is evaluations and Ray."""
    votes._count = count_nothing
    shares.charge("submission", votes._Collector, "_submit")
    shares.charge("database", VoteStore, "put")
    shares.charge("metrics", votes, "votes_counted")


def certify(images: int, n: int, workers: int, store: VoteStore) -> None:
    """Certify images of CIFAR-10's shape, with one vote task in flight for each of `workers`."""
    # Equal images, of which a set of so many holds one.
    pixels = torch.rand((1, 3, 32, 32)).expand(images, -1, -1, -1)
    evaluate = partial(certifying, Fixed(100, n, 0.001), SIGMA)
    job = VoteJob(
        "x", nn.Identity(), "hash", pixels, range(images), Noise(SIGMA), 0, evaluate, 100 + n
    )
    votes.collect_votes([job], store, Resources(1, 0.0, workers))


@contextlib.contextmanager
def counting() -> Iterator[VoteStore]:
    """A Ray whose processes are there, and a store of votes."""
    with tempfile.TemporaryDirectory() as folder, cluster_of(REAL_WORKERS):
        ray.get(count_nothing.remote(nn.Identity(), [torch.zeros(1)], [], None))
        yield VoteStore(Path(folder, "votes.db"))


def count(workers: int, shares: Shares) -> dict[str, float]:
    """What the driver does for a task."""
    with counting() as store:
        shares.calls.clear()
        before, started = spent() + shares.seconds, time.perf_counter()
        certify(IMAGES, N, workers, store)
        seconds, cost = time.perf_counter() - started, spent() + shares.seconds - before
    tasks, rows = shares.calls["submission"], rows_of(IMAGES, N)
    return {
        "tasks": tasks,
        "tasks / s": tasks / seconds,
        "rows / s": rows / seconds,
        **{part: 1000 * each / tasks for part, each in cost.items()},
    }


def rows_of(images: int, n: int) -> int:
    """So many counts are recorded: one of the selection, and one of each piece."""
    return images * (1 + -(-n // votes.PIECES["cpu"]))


def held(images: int, n: int) -> tuple[float, float, float]:
    """MB of the driver before and after; CPU milliseconds of an image when all is there already."""
    with counting() as store:
        before = memory()
        certify(images, n, REAL_WORKERS, store)
        after, started = memory(), time.process_time()
        certify(images, n, REAL_WORKERS, store)
        return before, after, 1000 * (time.process_time() - started) / images


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--workers", default="8,32,128")
    arguments.add_argument("--ledger-trials", type=int, default=10_000)
    arguments.add_argument("--trials", type=int, default=256)
    arguments.add_argument("--losses", type=int, default=0, help="terms recorded of each epoch")
    options = arguments.parse_args()
    sizes = [int(size) for size in options.workers.split(",")]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # It warns at each snapshot of trials this short.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    shares = Shares()
    charge_driver(shares)
    grid.run_search = partial(run_search, trainable=Nothing)
    with tempfile.TemporaryDirectory() as folder:
        columns = ("driver", *PARTS, "Tune and Ray", "gcs_server", "raylet", "MB")
        print("CPU milliseconds of a trial; MB of the driver")
        print(" | ".join(("workers", "in the ledger", *columns)))
        for kept in dict.fromkeys((BASELINES, options.ledger_trials)):
            filled = Path(folder, f"{kept}.db")
            fill(filled, kept)
            for workers in sizes:
                trials = max(options.trials, 4 * workers)
                found = search(filled, workers, trials, options.losses, shares)
                show((workers, kept), [found[column] for column in columns])
        columns = ("tasks", "tasks / s", "rows / s", "driver", *VOTE_PARTS, "raylet")
        print(f"Votes; CPU milliseconds of a task; {REAL_WORKERS} real workers")
        print(" | ".join(("workers", *columns)))
        shares = Shares()
        charge_votes(shares)
        for workers in sizes:
            found = count(workers, shares)
            show((workers,), [found[column] for column in columns])
        print("MB of the driver; CPU milliseconds of an image whose votes are there already")
        print("images | n | counts | before | after | again")
        for images, n in SIZES:
            show((images, n, rows_of(images, n)), held(images, n))


def show(keys: Sequence[int], values: Sequence[float]) -> None:
    """One row of a table."""
    print(" | ".join((*(str(key) for key in keys), *(f"{value:.1f}" for value in values))))


if __name__ == "__main__":
    main()
