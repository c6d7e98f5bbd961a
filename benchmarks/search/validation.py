"""How well the score of a trial predicts what its configuration is worth, and how early.

Usage: python -m benchmarks.search.validation --out FILE [--dataset digits] [--shots 10]
           [--set epochs=100]
       ... --dataset folder --data-dir DIR --classifier FILE --space small

Random configurations, half of them within a narrow band of sigma, are trained once on each fold
of the shots. The truth about a configuration is the score of its denoisers, averaged over the
folds, on training images that are not among the shots; test images are not touched. Printed are
rank correlations with that truth, what is lost by choosing with each kind of score, and how stable
the ranking of the rungs is. Raw rows go to a file, from which an interrupted run goes on.
"""

import argparse
import multiprocessing
import random
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from benchmarks.command_line import parser
from benchmarks.search.sampled import add_flags, keep, kept_rows, sampled
from trainables.cache import cache_folder
from trainables.data.datasets import Dataset, Images, load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import Shots, draw_shots
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import MemoryStore
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier
from trainables.pretraining.cached import cached_classifier
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, derive_seed, plan_blocks
from trainables.smoothing.objective import Objective, Score
from trainables.smoothing.prediction import Certification
from trainables.weights.checkpoint import load_classifier

# Shots and folds of development; no reported result uses these seeds.
SEED = 4711
BAND = (0.18, 0.35)
RUNGS = (0.125, 0.25, 0.375, 0.5, 0.75, 1.0)
LADDERS = (
    (),
    (0.125, 0.375),
    (0.125, 0.25, 0.5),
    (0.25,),
    (0.25, 0.5),
    (0.25, 0.75),
    (0.375,),
    (0.375, 0.75),
    (0.5,),
)
VOTES, TRUE_VOTES = 400, 200
N0, N, ALPHA = 100, 10_000, 0.001


def score(model: nn.Module, images: Tensor, labels: Tensor, sigma: float, votes: int) -> float:
    """The search's own objective on these images."""
    found = [
        total_votes(model, image, Noise(sigma), plan_blocks(votes, SEED, "votes", index))
        for index, image in enumerate(images)
    ]
    scores = Objective().scores(np.array(found), labels, Certification(N0, N, sigma, ALPHA))
    return Score.of(scores).mean


def measure(job: tuple[int, int, dict[str, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Train one configuration on one fold, scoring it at every rung, and once on other images."""
    number, fold, hyperparameters = job
    torch.set_num_threads(1)
    dataset = load_dataset(options.dataset, options.data_dir)
    classifier = base_classifier(dataset, options.classifier)
    drawn = draw_shots(dataset, ShotCount(options.shots), SEED)
    shots = drawn.fold(fold, SEED)
    config = DecropConfig.model_validate(hyperparameters)
    training = DecropTraining(
        config,
        classifier,
        shots.train_images,
        shots.train_labels,
        derive_seed(SEED, number, fold),
        SharedParts(store=MemoryStore()),
    )
    model = nn.Sequential(training.denoiser, classifier).eval()
    scores = {}
    for share in RUNGS:
        while training.epoch < round(share * config.epochs):
            training.train_epoch()
        model.eval()
        scores[str(share)] = score(
            model, shots.tuning_images, shots.tuning_labels, config.sigma, VOTES
        )
    others = images_beside(drawn, dataset.train, options.images)
    own = min(len(shots.train_labels), len(shots.tuning_labels) * 2)
    return {
        "number": number,
        "fold": fold,
        "sigma": config.sigma,
        "scores": scores,
        "own": score(model, shots.train_images[:own], shots.train_labels[:own], config.sigma, 200),
        "truth": score(model, *others, config.sigma, TRUE_VOTES),
    }


def base_classifier(dataset: Dataset, file: Path | None) -> BaseClassifier:
    """The user's classifier, or that of digits."""
    if file is not None:
        return load_classifier(file)
    return cached_classifier(dataset, "digits_cnn", cache_folder(), lambda _: None)


def images_beside(drawn: Shots, train: Images, count: int) -> tuple[Tensor, Tensor]:
    """`count` training images that are not among the shots, and their labels."""
    others = sorted(set(range(len(train.labels))) - set(drawn.joined()[2]))
    chosen = random.Random(SEED).sample(others, count)
    return train.load(chosen), train.labels[chosen]


def banded(place: int, point: dict[str, Any]) -> bool:
    """Whether a point may have a place: of every second one sigma is within the narrow band."""
    return place % 2 == 0 or BAND[0] <= float(point["sigma"]) <= BAND[1]


def show(rows: list[dict[str, Any]], folds: int) -> None:
    """Correlations, the cost of choosing by each score, and the stability of the rungs."""
    numbers = sorted({r["number"] for r in rows})
    cell = {(r["number"], r["fold"]): r for r in rows}
    numbers = [n for n in numbers if all((n, f) in cell for f in range(folds))]
    final = np.array([[cell[n, f]["scores"]["1.0"] for f in range(folds)] for n in numbers])
    own = np.array([[cell[n, f]["own"] for f in range(folds)] for n in numbers])
    truth = np.array([[cell[n, f]["truth"] for f in range(folds)] for n in numbers]).mean(axis=1)
    sigma = np.array([cell[n, 0]["sigma"] for n in numbers])
    within = (sigma >= BAND[0]) & (sigma <= BAND[1])
    print(f"\n{len(numbers)} configurations, {folds} folds, {within.sum()} within {BAND}")
    estimates = {
        "the training shots themselves": own,
        "one holdout": final,
        **{f"mean of {k} folds": rolling(final, k) for k in range(2, folds + 1)},
    }
    print("| score | rank correlation | within the band | lost by choosing the best of all |")
    print("|---|---|---|---|")
    for name, columns in estimates.items():
        every = [spearmanr(column, truth).statistic for column in columns.T]
        near = [spearmanr(column[within], truth[within]).statistic for column in columns.T]
        lost = [truth.max() - truth[column.argmax()] for column in columns.T]
        print(f"| {name} | {np.mean(every):.2f} | {np.mean(near):.2f} | {np.mean(lost):.4f} |")
    equal_budget(final, truth, folds)
    ladders(cell, numbers, truth, folds)
    print(
        "\n| share of the epochs | rank correlation with the end | with the truth "
        "| best third survives a cut to a third |\n|---|---|---|---|"
    )
    for share in RUNGS:
        at = np.array([[cell[n, f]["scores"][str(share)] for f in range(folds)] for n in numbers])
        end = [spearmanr(a, b).statistic for a, b in zip(at.T, final.T, strict=True)]
        real = [spearmanr(a, truth).statistic for a in at.T]
        top = truth >= np.quantile(truth, 0.9)
        kept = [(a >= np.quantile(a, 2 / 3))[top].mean() for a in at.T]
        print(f"| {share:.1%} | {np.mean(end):.2f} | {np.mean(real):.2f} | {np.mean(kept):.0%} |")


def rolling(scores: np.ndarray, k: int) -> np.ndarray:
    """Means of `k` consecutive folds, cyclically: [configurations, folds]."""
    return np.stack(
        [np.roll(scores, -i, axis=1)[:, :k].mean(axis=1) for i in range(scores.shape[1])], axis=1
    )


def equal_budget(scores: np.ndarray, truth: np.ndarray, folds: int) -> None:
    """The truth of what is chosen when every way may train as many denoisers."""
    generator = np.random.default_rng(0)
    budget = len(truth) // 2
    print(f"\nwith {budget} trainings to spend, 2000 draws: truth of the chosen configuration")
    for name, k, top in (
        ("holdout", 1, 0),
        ("every fold", folds, 0),
        ("holdout, then the best three again on the other folds", 1, 3),
    ):
        chosen = []
        for _ in range(2000):
            count = (budget - top * (folds - 1)) // k
            picked = generator.choice(len(truth), count, replace=False)
            fold = generator.integers(folds)
            first = rolling(scores, k)[picked, fold]
            if top:
                picked = picked[np.argsort(-first)[:top]]
                first = np.delete(scores[picked], fold, axis=1).mean(axis=1)
            chosen.append(truth[picked[first.argmax()]])
        error = np.std(chosen) / np.sqrt(len(chosen))
        print(f"  {name}: {np.mean(chosen):.4f} +- {error:.4f}")


def ladders(
    cell: dict[tuple[int, int], dict[str, Any]],
    numbers: list[int],
    truth: np.ndarray,
    folds: int,
) -> None:
    """What successive halving finds with other rungs, all with the same number of epochs."""
    budget = len(numbers) / 4
    print(f"\nepochs of {budget:g} full trainings, 2000 draws: truth of the chosen configuration")
    for rungs in LADDERS:
        generator = np.random.default_rng(0)
        found = [
            truth[successive_halving(cell, numbers, int(generator.integers(folds)), order, rungs)]
            for order in (generator.permutation(len(numbers)) for _ in range(2000))
        ]
        error = np.std(found) / np.sqrt(len(found))
        print(f"  rungs {[*rungs]}: {np.mean(found):.4f} +- {error:.4f}")


def successive_halving(
    cell: dict[tuple[int, int], dict[str, Any]],
    numbers: list[int],
    fold: int,
    order: np.ndarray,
    rungs: tuple[float, ...],
) -> int:
    """The configuration with the best final score when a quarter of all epochs are spent."""
    left, best = len(numbers) / 4, (-1.0, 0)
    seen: dict[float, list[float]] = {rung: [] for rung in rungs}
    for index in order:
        scores, trained = cell[numbers[index], fold]["scores"], 0.0
        for rung in (*rungs, 1.0):
            left -= rung - trained
            trained, value = rung, scores[str(rung)]
            if left < 0:
                return best[1]
            if rung == 1.0:
                best = max(best, (value, int(index)))
                break
            earlier = seen[rung]
            ends = len(earlier) >= 3 and value < np.quantile(earlier, 2 / 3)
            earlier.append(value)
            if ends:
                break
    return best[1]


def main() -> None:
    arguments = parser(__doc__)
    add_flags(arguments, dataset="digits", shots="10", space="digits", configurations=44)
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--images", type=int, default=150, help="that tell the truth")
    options = arguments.parse_args()
    rows = kept_rows(options.out)
    done = {(row["number"], row["fold"]) for row in rows}
    jobs = [
        (number, fold, point)
        for fold in range(options.folds)
        for number, point in enumerate(sampled(options, SEED, banded))
        if (number, fold) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for row in pool.imap_unordered(partial(measure, options=options), jobs):
            rows.append(row)
            keep(options.out, row)
    show(rows, options.folds)


if __name__ == "__main__":
    main()
