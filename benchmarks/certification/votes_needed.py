"""How many votes the three procedures take on real images, and what that is worth in time.

Usage: python -m benchmarks.certification.votes_needed --data-dir DIR --classifier FILE
           [--minutes 25] [--out DIR] [--depth 9] [--width 32] [--epochs 50] [--device cuda]

DIR is an image folder with train/ and test/, FILE its classifier. For each sigma a DnCNN of that
size is trained as the best one of benchmarks.training.variants, and counts votes for test
images in random order until the time is up. The counts after every 100 votes are kept in --out,
where the same command goes on. All procedures are then replayed on the same counts, so that their
differences are only those of the procedures; intervals are at 95 %, from a bootstrap over images.
At the end the usual loop (`plain` in votes_a_second.py) and this project's count take turns:
seconds per certified image are seconds a vote times votes an image.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.certification.votes_a_second import plain
from benchmarks.command_line import parser
from benchmarks.training.variants import COMMON, VARIANTS
from trainables.acceleration.voting import Precision, prepared
from trainables.data.datasets import Dataset, Images, load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import draw_shots
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining
from trainables.smoothing.certify import Certificate, certifying
from trainables.smoothing.counting import Piece, count_votes, total_votes
from trainables.smoothing.noise import BLOCK_SIZE, Noise, plan_blocks
from trainables.smoothing.precision import choose_precision
from trainables.smoothing.procedures import Adaptive, Fixed, Procedure, Tolerance
from trainables.weights.checkpoint import load_classifier
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser

SIGMAS = (0.25, 0.5)
VARIANT = "the same, with MSE"
N0, N, ALPHA, TOLERANCE = 100, 10_000, 0.001, 0.02
RADII = (0.25, 0.5, 0.75)
PROCEDURES: dict[str, Procedure] = {
    "fixed": Fixed(N0, N, ALPHA),
    f"tolerance {TOLERANCE}": Tolerance(N0, N, ALPHA, TOLERANCE),
    "adaptive, all three radii": Adaptive(N0, N, ALPHA, RADII),
    "adaptive, radius 0.25": Adaptive(N0, N, ALPHA, RADII[:1]),
}
RESAMPLES, REPEATS = 5000, 5
TIMED_VOTES = {"cpu": 500, "cuda": 50_000}

Row = dict[str, Any]
Statistic = Callable[[np.ndarray], float]


def denoised(options: argparse.Namespace, dataset: Dataset, sigma: float) -> nn.Module:
    """The denoiser for `sigma`, trained now if it is not there yet, before the classifier."""
    classifier = load_classifier(options.classifier).to(options.device)
    path = options.out / f"denoiser-{sigma:g}.safetensors"
    if not path.exists():
        shots = draw_shots(dataset, ShotCount("50"), 0)
        own = {name: getattr(options, name) for name in ("depth", "width", "epochs")}
        config = DecropConfig.model_validate(COMMON | VARIANTS[VARIANT] | own | {"sigma": sigma})
        images, labels = (
            each.to(options.device) for each in (shots.train_images, shots.train_labels)
        )
        training = DecropTraining(config, classifier, images, labels, 0)
        for _ in range(config.epochs):
            training.train_epoch()
        path.write_bytes(denoiser_bytes(training.denoiser))
    return nn.Sequential(load_denoiser(path.read_bytes()), classifier).eval().to(options.device)


def counted(model: nn.Module, image: Tensor, label: int, index: int, sigma: float) -> Row:
    """The votes of n0, and the cumulative ones after every block of fresh ones."""
    blocks = [*plan_blocks(N0, "select", index, sigma), *plan_blocks(N, "votes", index, sigma)]
    select, *fresh = count_votes(
        model, [Piece(image, Noise(sigma), [block]) for block in blocks]
    ).cpu()
    return {
        "sigma": sigma,
        "image": index,
        "label": label,
        "select": select.tolist(),
        "votes": torch.stack(fresh).cumsum(dim=0).tolist(),
    }


def votes_after(row: Row, stop: int) -> np.ndarray:
    """Votes per class among the first `stop`; part of a block is drawn from it by lot."""
    votes = np.array([[0] * len(row["select"]), *row["votes"]])
    block, rest = divmod(stop, BLOCK_SIZE)
    found: np.ndarray = votes[block]
    if rest:
        counts = votes[block + 1] - found
        nobody = BLOCK_SIZE - counts.sum()
        generator = np.random.default_rng([row["image"], stop])
        found = found + generator.multivariate_hypergeometric([*counts, nobody], rest)[:-1]
    return found


def replayed(procedure: Procedure, row: Row) -> Certificate:
    """The certificate that the procedure makes of the counts."""
    asking = certifying(procedure, row["sigma"])
    next(asking)
    answer = row["select"]
    while True:
        try:
            request = asking.send(answer)
        except StopIteration as done:
            found: Certificate = done.value
            return found
        between = votes_after(row, request.stop) - votes_after(row, request.start)
        answer = between.tolist()


def interval(statistic: Statistic, images: int) -> str:
    """The statistic of all images and its interval; it is told the positions of a sample."""
    generator = np.random.default_rng(0)
    found = [statistic(generator.integers(images, size=images)) for _ in range(RESAMPLES)]
    low, high = np.percentile(found, (2.5, 97.5))
    value = statistic(np.arange(images))
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 1 else 4
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def mean_of(values: np.ndarray) -> Statistic:
    """The mean of the values at some positions."""
    return lambda positions: float(values[positions].mean())


def line(name: str, rows: list[Row], usual: list[Certificate], speedup: float) -> str:
    """What the procedure makes of the counts, beside what the fixed one, `usual`, makes."""
    procedure = PROCEDURES[name]
    found = [replayed(procedure, row) for row in rows]
    votes, all_votes = (np.array([c.votes for c in each]) for each in (found, usual))
    radii, all_radii = (np.array([c.radius for c in each]) for each in (found, usual))
    labels = [row["label"] for row in rows]
    right, all_right = (np.array([c.predicted for c in each]) == labels for each in (found, usual))
    # An adaptive procedure knows no other radii than its own.
    decided = procedure.radii if isinstance(procedure, Adaptive) else RADII
    at = [right & (radii >= r) for r in decided]
    more = [
        1.0 * hits - (all_right & (all_radii >= r)) for hits, r in zip(at, decided, strict=True)
    ]
    cells = [
        interval(mean_of(votes), len(rows)),
        interval(lambda i: all_votes[i].mean() / votes[i].mean(), len(rows)),
        " / ".join(f"{hits.mean():.3f}" for hits in at),
        " / ".join(interval(mean_of(difference), len(rows)) for difference in more),
        "" if isinstance(procedure, Adaptive) else interval(mean_of(all_radii - radii), len(rows)),
        f"{speedup * all_votes.mean() / votes.mean():.1f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def show(rows: list[Row], speedup: float) -> None:
    """A table for each sigma: votes, certified accuracy and radius, and the gain in time."""
    for sigma in SIGMAS:
        mine = [row for row in rows if row["sigma"] == sigma]
        if not mine:
            continue
        usual = [replayed(PROCEDURES["fixed"], row) for row in mine]
        print(f"\nsigma {sigma:g}, {len(mine)} images")
        print(
            f"| | votes an image | times fewer than fixed | certified at {RADII} "
            "| difference to fixed | mean loss of radius | seconds, plain loop over ours |"
        )
        print("|---|---|---|---|---|---|---|")
        for name in PROCEDURES:
            print(line(name, mine, usual, speedup))


def timed(model: nn.Module, fast: nn.Module, image: Tensor) -> tuple[float, float]:
    """Seconds a vote of the usual loop, and of this project's; medians, in turns, after one each.

    On a CPU of processor time: there is one thread, and other processes are not to count.
    """
    votes = TIMED_VOTES[image.device.type]
    clock = time.perf_counter if image.is_cuda else time.process_time
    ways: list[Callable[[], object]] = [
        lambda: plain(model, image, votes),
        lambda: total_votes(fast, image, Noise(SIGMAS[0]), plan_blocks(votes, "timed")),
    ]
    seconds: list[list[float]] = [[], []]
    for _ in range(1 + REPEATS):
        for way, found in zip(ways, seconds, strict=True):
            started = clock()
            way()
            found.append((clock() - started) / votes)
    return statistics.median(seconds[0][1:]), statistics.median(seconds[1][1:])


def count_until(
    ends: float, models: dict[float, nn.Module], test: Images, file: Path, device: str
) -> list[Row]:
    """The counts that `file` holds, and those of further test images until the clock is at `ends`.

    They are taken in random order, which is always the same.
    """
    rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    done = {(row["sigma"], row["image"]) for row in rows}
    for index in np.random.default_rng(0).permutation(len(test.labels)).tolist():
        if time.monotonic() > ends:
            break
        image, label = test.load([index])[0].to(device), int(test.labels[index])
        # An image counts at every sigma or at none.
        found = [
            counted(model, image, label, index, sigma)
            for sigma, model in models.items()
            if (sigma, index) not in done
        ]
        rows += found
        with file.open("a") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in found)
    return rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data-dir", type=Path, required=True)
    arguments.add_argument("--classifier", type=Path, required=True)
    arguments.add_argument("--minutes", type=float, default=25, help="for counting")
    arguments.add_argument("--precision", choices=("auto", "float32", "bfloat16"), default="auto")
    arguments.add_argument("--depth", type=int, default=9)
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--epochs", type=int, default=50)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--out", type=Path, default=Path("runs/votes_needed"))
    options = arguments.parse_args()
    torch.set_num_threads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    dataset = load_dataset("folder", options.data_dir)
    models = {sigma: denoised(options, dataset, sigma) for sigma in SIGMAS}
    image = dataset.test.load([0])[0].to(options.device)
    precision: Precision = options.precision
    if options.precision == "auto":
        precision = choose_precision(models[SIGMAS[0]], image)
    fast = {sigma: prepared(model, image.shape, precision) for sigma, model in models.items()}
    ends = time.monotonic() + 60 * options.minutes
    file = options.out / f"votes-{precision}.jsonl"
    rows = count_until(ends, fast, dataset.test, file, options.device)
    usual, ours = timed(models[SIGMAS[0]], fast[SIGMAS[0]], image)
    print(
        f"votes a second in {precision}: plain loop {1 / usual:.0f}, ours {1 / ours:.0f}, "
        f"{usual / ours:.1f} times as many"
    )
    show(rows, usual / ours)


if __name__ == "__main__":
    main()
