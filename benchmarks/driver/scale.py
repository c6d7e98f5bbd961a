"""What trials and votes cost the driver of a large run, which pretends to have many workers.

Usage: python -m benchmarks.driver.scale [--workers 8,32,128] [--ledger-trials 10000] [--trials 256]
           [--losses 0]

Trials train nothing. They run as in the search of a run, with its ledger, table, metrics and
TensorBoard, on a ledger that already holds --ledger-trials others. There are at least four for each
worker; the first, during which workers start, is not counted. Vote tasks count nothing and report
that they took a second; as many are in flight as that many workers would get. What is measured is
the CPU time of this process, because wall time means nothing with fewer cores than pretended. The
process has a core to itself, as it would on a cluster.
"""

import argparse
import logging
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.command_line import parser
from benchmarks.driver import trials, votes
from tuning.study.database import silence_optuna

# Images, and votes on each, for the memory of the driver; the first certification warms up.
SIZES = ((500, 10_000), (500, 10_000), (500, 100_000), (5000, 10_000))


def show_trials(sizes: Sequence[int], options: argparse.Namespace) -> None:
    """What a trial costs, with few and with many others in the ledger."""
    shares = trials.charged()
    columns = ("driver", *trials.PARTS, "Tune and Ray", "gcs_server", "raylet", "MB")
    print("CPU milliseconds of a trial; MB of the driver")
    print(" | ".join(("workers", "in the ledger", *columns)))
    with tempfile.TemporaryDirectory() as folder:
        for kept in dict.fromkeys((trials.BASELINES, options.ledger_trials)):
            filled = Path(folder, f"{kept}.db")
            trials.fill(filled, kept)
            for workers in sizes:
                count = max(options.trials, 4 * workers)
                found = trials.cost_of_trials(filled, workers, count, options.losses, shares)
                show((workers, kept), [found[column] for column in columns])


def show_votes(sizes: Sequence[int]) -> None:
    """What a vote task costs."""
    shares = votes.charged()
    columns = ("tasks", "tasks / s", "rows / s", "driver", *votes.PARTS, "raylet")
    print(f"Votes; CPU milliseconds of a task; {votes.REAL_WORKERS} real workers")
    print(" | ".join(("workers", *columns)))
    for workers in sizes:
        found = votes.cost_of_tasks(workers, shares)
        show((workers,), [found[column] for column in columns])


def show_memory() -> None:
    """How much memory the driver takes while votes are counted."""
    print("MB of the driver; CPU milliseconds of an image whose votes are there already")
    print("images | n | counts | before | after | again")
    for images, n in SIZES:
        show((images, n, votes.rows_of(images, n)), votes.held(images, n))


def show(keys: Sequence[int], values: Sequence[float]) -> None:
    """One row of a table."""
    print(" | ".join((*(str(key) for key in keys), *(f"{value:.1f}" for value in values))))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workers", default="8,32,128")
    arguments.add_argument("--ledger-trials", type=int, default=10_000)
    arguments.add_argument("--trials", type=int, default=256)
    arguments.add_argument("--losses", type=int, default=0, help="terms recorded of each epoch")
    options = arguments.parse_args()
    sizes = [int(size) for size in options.workers.split(",")]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"
    silence_optuna()
    # It warns at each snapshot of trials this short.
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    show_trials(sizes, options)
    show_votes(sizes)
    show_memory()


if __name__ == "__main__":
    main()
