"""Noisy accuracy on CIFAR-10 of denoised smoothing, DE-CROP as published, and hand-chosen variants.

Usage: python -m benchmarks.training.variants --data-dir DIR --classifier FILE [--workers 2]

DIR is an image folder with train/ and test/. Every variant trains the same denoiser for the same
number of epochs on the same 50 shots a class (a fifth of them held out for tuning), with three
seeds for shots, weights and noise. Among the four hand-chosen variants the best is picked by its
mean accuracy on noisy *tuning* images; what is printed is the accuracy on noisy test images, one
draw each. Finished runs are kept in --out, and not repeated.
"""

import json
import multiprocessing
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.command_line import parser
from trainables.data.datasets import load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import draw_shots
from trainables.decrop.config import BASELINES, DecropConfig
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.weights.checkpoint import load_classifier

SIGMA = 0.25
SEEDS = (0, 1, 2)
TUNING_DRAWS = 10
COMMON = {
    "sigma": SIGMA,
    "depth": 9,
    "width": 32,
    "epochs": 50,
    "batch_size": 40,
}
# As the start points of the spaces.
PAIRED = {
    "paired_augmentation": True,
    "interpolation_steps": 50,
    "eight_bits": "rounded",
    "normalised_features": False,
    "equal_batches": True,
    "joined_batch_norm": True,
    "norm_momentum": 0.1,
    "stages": 1,
    "schedule": "onecycle",
}
HAND_CHOSEN = {
    "paired, 50 steps, OneCycle": PAIRED | {"learning_rate": 3e-3},
    "the same, lighter terms": PAIRED | {"learning_rate": 3e-3, "w_cosine": 1.0, "w_mmd": 1.0},
    "the same, with MSE": PAIRED | {"learning_rate": 3e-3, "w_mse": 10.0},
    "MSE, cosine and EMA": PAIRED
    | {"learning_rate": 3e-3, "w_mse": 10.0, "w_mmd": 0.0, "w_cosine": 1.0, "ema_decay": 0.98},
}
VARIANTS: dict[str, dict[str, object]] = {
    "label_consistency": dict(BASELINES["label_consistency"]),
    "published": {},
    **HAND_CHOSEN,
}
Row = dict[str, Any]
"""What one training came to."""


def noisy_accuracy(model: nn.Module, images: Tensor, labels: Tensor, seed: int) -> float:
    """Share of `images` [n, C, H, W] that `model` gets right under one draw of noise each."""
    generator = torch.Generator().manual_seed(seed)
    right = 0
    with torch.inference_mode():
        for x, y in zip(images.split(100), labels.split(100), strict=True):
            noisy = x + SIGMA * torch.randn(x.shape, generator=generator)
            right += int((model(noisy).argmax(dim=1) == y).sum())
    return right / len(labels)


def train(job: tuple[str, int], data_dir: Path, classifier_file: Path) -> Row:
    """Train one variant with one seed and measure it."""
    variant, seed = job
    torch.set_num_threads(1)
    dataset = load_dataset("folder", data_dir)
    classifier = load_classifier(classifier_file)
    shots = draw_shots(dataset, ShotCount("50"), seed)
    config = DecropConfig.model_validate(COMMON | VARIANTS[variant])
    started = time.perf_counter()
    shared = SharedParts(precision="bfloat16")
    training = DecropTraining(
        config, classifier, shots.train_images, shots.train_labels, seed, shared
    )
    for _ in range(config.epochs):
        training.train_epoch()
    seconds = time.perf_counter() - started
    model = nn.Sequential(training.denoiser, classifier).eval()
    test = dataset.test.load(range(len(dataset.test.labels)))
    tuning_images = shots.tuning_images.repeat(TUNING_DRAWS, 1, 1, 1)
    tuning_labels = shots.tuning_labels.repeat(TUNING_DRAWS)
    return {
        "variant": variant,
        "seed": seed,
        "tuning": noisy_accuracy(model, tuning_images, tuning_labels, seed=1),
        "test": noisy_accuracy(model, test, dataset.test.labels, seed=2),
        "seconds": seconds,
    }


def table(rows: list[Row]) -> str:
    """The results as a Markdown table, one line per variant."""
    lines = [
        "| variant | noisy tuning images | noisy test images | seconds a run |",
        "|---|---|---|---|",
    ]
    means = {}
    for variant in VARIANTS:
        mine = [row for row in rows if row["variant"] == variant]
        if not mine:
            continue
        tuning, test, seconds = ([float(r[k]) for r in mine] for k in ("tuning", "test", "seconds"))
        means[variant] = statistics.mean(tuning)
        spread = statistics.stdev(test) if len(test) > 1 else float("nan")
        lines.append(
            f"| {variant} | {means[variant]:.1%} | {statistics.mean(test):.1%} ± {spread:.1%} "
            f"({len(mine)} seeds) | {statistics.median(seconds):.0f} |"
        )
    chosen = max((v for v in HAND_CHOSEN if v in means), key=means.__getitem__, default="none yet")
    return "\n".join([*lines, "", f"best hand-chosen by tuning images: {chosen}"])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data-dir", type=Path, required=True)
    arguments.add_argument("--classifier", type=Path, required=True)
    arguments.add_argument("--workers", type=int, default=2)
    arguments.add_argument("--out", type=Path, default=Path("runs/cifar10_variants.jsonl"))
    options = arguments.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    lines = options.out.read_text().splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in lines]
    done = {(row["variant"], row["seed"]) for row in rows}
    jobs = [(v, seed) for seed in SEEDS for v in VARIANTS if (v, seed) not in done]
    work = partial(train, data_dir=options.data_dir, classifier_file=options.classifier)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        for row in pool.imap_unordered(work, jobs):
            rows.append(row)
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
