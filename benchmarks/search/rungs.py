"""How early the score of a trial tells what it becomes.

Usage: python -m benchmarks.search.rungs --out FILE --data-dir DIR --classifier FILE
           [--shots 25] [--space small] [--set NAME=VALUE ...] [--configurations 24]
           [--budget MINUTES] [--workers 2]

Random configurations of the space are each trained once, as trials are, on four fifths of the
shots, and scored on the others after each share of their steps. Printed is Spearman's rank
correlation of the scores there with those at the end, with a 95 % bootstrap interval over the
configurations: of all of them, and of those whose schedule lowers the learning rate only near the
end, which look worst before it. The file keeps votes, not scores; an interrupted benchmark goes on
from it, and after --budget no further configuration is started.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import nn

from benchmarks.command_line import parser
from benchmarks.search.sampled import Row, add_flags, keep, kept_rows, sampled
from benchmarks.search.validation import base_classifier
from trainables.acceleration.voting import prepared
from trainables.data.datasets import load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import draw_shots
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining, SharedParts, steps_in_epoch
from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import Noise, derive_seed, plan_blocks
from trainables.smoothing.objective import Objective
from trainables.smoothing.prediction import Certification

# Shots and configurations of development; no reported result uses this seed.
SEED = 4712
SHARES = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
ANNEALING = ("cosine", "onecycle")
VOTES, N0, N, ALPHA = 64, 100, 10_000, 0.001
DRAWS = 2000


def measure(number: int, hyperparameters: dict[str, Any], options: argparse.Namespace) -> Row:
    """Train a configuration, and count the votes on the tuning images after each share."""
    torch.set_num_threads(1)
    dataset = load_dataset(options.dataset, options.data_dir)
    classifier = base_classifier(dataset, options.classifier)
    shots = draw_shots(dataset, ShotCount(options.shots), SEED)
    config = DecropConfig.model_validate(hyperparameters)
    training = DecropTraining(
        config,
        classifier,
        shots.train_images,
        shots.train_labels,
        derive_seed(SEED, number),
        SharedParts(precision=options.precision),
    )
    votes, started = {}, time.perf_counter()
    for share in SHARES:
        while training.epoch < max(1, round(share * config.epochs)):
            training.train_epoch()
        model = nn.Sequential(training.denoiser, classifier).eval()
        counts = count_votes(
            prepared(model, shots.train_images.shape[1:], options.precision),
            [
                Piece(image, Noise(config.sigma), plan_blocks(VOTES, SEED, "votes", index))
                for index, image in enumerate(shots.tuning_images)
            ],
        )
        votes[str(share)] = counts.tolist()
    return {
        "number": number,
        "sigma": config.sigma,
        "schedule": config.schedule,
        "batch_size": config.batch_size,
        "steps": config.epochs * steps_in_epoch(config, len(shots.train_labels)),
        "seconds": round(time.perf_counter() - started, 1),
        "labels": shots.tuning_labels.tolist(),
        "votes": votes,
    }


def scores(row: Row) -> list[float]:
    """The score after each share: the objective that searches have by default."""
    certification = Certification(N0, N, row["sigma"], ALPHA)
    objective = Objective()
    return [
        float(np.mean(objective.scores(np.array(votes), row["labels"], certification)))
        for votes in row["votes"].values()
    ]


def correlation(early: np.ndarray, end: np.ndarray) -> str:
    """Spearman's rank correlation with its 95 % bootstrap interval."""
    generator, count = np.random.default_rng(0), len(end)
    drawn = [generator.integers(count, size=count) for _ in range(DRAWS)]
    found = [spearmanr(early[d], end[d]).statistic for d in drawn]
    low, high = np.nanquantile(found, (0.025, 0.975))
    return f"{spearmanr(early, end).statistic:.2f} [{low:.2f}, {high:.2f}]"


def show(rows: list[Row]) -> None:
    """The correlations as a Markdown table."""
    found = np.array([scores(row) for row in rows])
    anneals = np.array([row["schedule"] in ANNEALING for row in rows])
    steps = sorted({row["steps"] for row in rows})
    lengths = f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else f"{steps[0]}"
    print(f"\n{len(rows)} configurations of {lengths} steps, {anneals.sum()} of them anneal")
    print(f"score at the end: {found[:, -1].min():.3f} to {found[:, -1].max():.3f}\n")
    print("| share of the steps | rank correlation with the end | where the schedule anneals |")
    print("|---|---|---|")
    for column, share in enumerate(SHARES[:-1]):
        every = correlation(found[:, column], found[:, -1])
        late = correlation(found[anneals, column], found[anneals, -1])
        print(f"| {share:.0%} | {every} | {late} |")


def run(options: argparse.Namespace, done: set[int]) -> Iterator[Row]:
    """The rows of the open configurations, as they end."""
    deadline = time.monotonic() + 60 * options.budget
    waiting = [(n, point) for n, point in enumerate(sampled(options, SEED)) if n not in done]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, context) as pool:
        pending: set[Future[Row]] = set()
        while waiting or pending:
            while waiting and len(pending) < options.workers:
                pending.add(pool.submit(partial(measure, options=options), *waiting.pop(0)))
            ended, pending = wait(pending, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in ended)
            if time.monotonic() > deadline:
                waiting.clear()


def main() -> None:
    arguments = parser(__doc__)
    add_flags(arguments, dataset="folder", shots="25", space="small", configurations=24)
    arguments.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    arguments.add_argument("--budget", type=float, default=60, help="minutes")
    options = arguments.parse_args()
    rows = kept_rows(options.out)
    for row in run(options, {row["number"] for row in rows}):
        rows.append(row)
        keep(options.out, row)
        print(f"configuration {row['number']}: {row['seconds']} s", flush=True)
    show(rows)


if __name__ == "__main__":
    main()
