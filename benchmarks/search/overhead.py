"""What the search itself costs: trials that do nothing, and proposals from a long ledger.

Usage: python -m benchmarks.search.overhead [--trials 300] [--ledger-trials 2000]
           [--repeats 3]

Trials of ten hyperparameters that report at three rungs and train nothing run twice, in turn: by
this project's search, and by a bare Tuner with OptunaSearch, ASHA, SQLite and reused actors.
"""

import logging
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, ClassVar

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.command_line import parser
from benchmarks.driver.nothing import RUNGS, Nothing
from search_spaces import load_space
from search_spaces.space import SearchSpace
from tuning.cluster.pool import TaskPool
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.search.budget import Limits
from tuning.search.searcher import Study
from tuning.search.tune import run_search
from tuning.study.attempts import TrialResult
from tuning.study.database import silence_optuna, sqlite_url
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

VARIED = 10
WORKERS = 2


class NoBoard:
    """No TensorBoard: the bare Tuner writes none either."""

    best: ClassVar[dict[int, float]] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def space() -> SearchSpace:
    """Ten hyperparameters of the shipped space, without those that depend on others."""
    full = load_space("digits")
    free = [name for name, p in full.parameters.items() if not p.when][:VARIED]
    return full.holding({n: full.published[n] for n in full.parameters if n not in free})


def ours(trials: int, folder: Path) -> float:
    """Seconds of `trials` trials by this project's search."""
    started = time.perf_counter()
    ledger = Ledger(sqlite_url(folder / "study.db"), "x", space(), Plan(trials, 4, 0), RUNGS)
    nobody: Any = None
    board: Any = NoBoard()
    run_search(
        [Study("x", ledger, nobody, board, lambda: None)],
        pool=TaskPool(Resources(1, 0.0, WORKERS)),
        scratch=local_storage(folder / "tune"),
        limits=Limits(),
        transfer=0,
        trainable=Nothing,
    )
    seconds = time.perf_counter() - started
    assert ledger.finished
    return seconds / len(ledger.points)


def define(trial: optuna.Trial) -> dict[str, Any]:
    """The same space, by define-by-run."""
    return dict(space().suggest(trial))


def bare(trials: int, folder: Path) -> float:
    """Seconds of `trials` trials by Ray's own means."""
    started = time.perf_counter()
    storage = optuna.storages.RDBStorage(sqlite_url(folder / "bare.db"))
    search = OptunaSearch(
        space=define, metric="objective", mode="max", storage=storage, study_name="x"
    )
    tune.Tuner(
        Nothing,
        tune_config=tune.TuneConfig(
            search_alg=search,
            scheduler=ASHAScheduler(
                time_attr="epochs", metric="objective", mode="max", max_t=200, grace_period=25
            ),
            num_samples=trials,
            max_concurrent_trials=WORKERS,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="bare",
            storage_path=str(folder),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=1, checkpoint_frequency=1),
            verbose=0,
        ),
    ).fit()
    return (time.perf_counter() - started) / trials


def ask_latency(trials: int, folder: Path) -> None:
    """Milliseconds of a proposal as the ledger grows, and the memory of this process."""
    ledger = Ledger(sqlite_url(folder / "long.db"), "x", space(), Plan(trials, 4, 0), RUNGS)
    asked: list[float] = []
    told: list[float] = []
    while not ledger.finished:
        started = time.perf_counter()
        running = []
        while proposal := ledger.next_proposal():
            running.append(proposal)
        asked += [(time.perf_counter() - started) / len(running)] * len(running)
        for proposal in running:
            started = time.perf_counter()
            score = -((proposal.hyperparameters.sigma - 0.3) ** 2)
            pruned = any(ledger.report(proposal.number, rung, score, 1.0) for rung in RUNGS[:-1])
            ledger.tell(proposal.number, TrialResult(score, 25 if pruned else 200, 1.0, node=""))
            told.append(time.perf_counter() - started)
        if len(told) // 500 != (len(told) - len(running)) // 500:
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            last = [1000 * statistics.median(taken[-100:]) for taken in (asked, told)]
            print(
                f"  {len(told)} trials: a proposal {last[0]:.0f} ms, a result {last[1]:.0f} ms "
                f"(medians of the last 100); {memory:.0f} MB"
            )
    print(f"  median of all proposals: {1000 * statistics.median(asked):.0f} ms (goal 50)")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=300)
    arguments.add_argument("--ledger-trials", type=int, default=2000)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    silence_optuna()
    # It warns at each snapshot of trials this short.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        print(f"proposals from a ledger of up to {options.ledger_trials} trials")
        ask_latency(options.ledger_trials, Path(folder))
    ray.init(address="local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False)
    seconds: dict[str, list[float]] = {"ours": [], "bare": []}
    for _ in range(options.repeats):
        for name, side in (("ours", ours), ("bare", bare)):
            with tempfile.TemporaryDirectory() as folder:
                seconds[name].append(side(options.trials, Path(folder)))
    mine, theirs = (statistics.median(taken) for taken in seconds.values())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.trials} trials that do nothing, {WORKERS} workers, medians of each side")
    print(f"  this project: {mine:.3f} s a trial (goal 0.15), driver at most {memory:.0f} MB")
    print(f"  a bare Tuner with OptunaSearch: {theirs:.3f} s; ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main()
