"""The published setting of DE-CROP on CIFAR-10, certified: a table beside published numbers.

Usage: python -m benchmarks.reproduction --data-dir DIR --classifier FILE --out FOLDER
           [--tuned RUN] [--budget MINUTES] [--images 500] [--n 10000] [--shots 50] [--depth 17]
           [--width 64] [--epochs N] [--batch-size N] [--precision auto] [--seed 0]

DIR is an image folder with train/ and test/. Five things are certified at sigma 0.25, by the same
procedure on the same test images: the classifier itself; a denoiser trained for label consistency;
one trained for the MSE; DE-CROP as published; DE-CROP as tuned. Each is trained once, on all shots.
"Tuned" is the winner of the finished run --tuned; without one it is the space's first start point,
which was chosen by hand. What is there already is not done again, and after --budget nothing is
started: the same command goes on from there. Smaller numbers make a scaled version for a machine
without a GPU. Intervals are at 95 % and cover the choice of test images.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pyarrow.parquet as pq
import torch
from torch import nn

from benchmarks.command_line import parser
from results.curves import share_of
from search_spaces import load_space
from trainables.acceleration.voting import prepared
from trainables.data.datasets import Dataset, load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import HeldOutImages, draw_shots, held_out_images
from trainables.decrop.config import BASELINES, DecropConfig
from trainables.decrop.precision import choose_training_precision
from trainables.decrop.training import DecropTraining, SharedParts, steps_in_epoch
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.bounds import certified_radius
from trainables.smoothing.counting import Piece, count_votes, forward_batch
from trainables.smoothing.noise import Noise, plan_blocks
from trainables.smoothing.precision import choose_precision
from trainables.weights.checkpoint import load_classifier
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser

SIGMA, N0, ALPHA = 0.25, 100, 0.001
RADII = (0.0, 0.25, 0.5, 0.75)
SPACE = "cifar10-1pct"
NAMES = ("none", "label consistency", "MSE", "published", "tuned")
# Certified accuracy in % at RADII, and what differs from this setting. All are for ResNet-110 on
# the original images, with denoisers trained on all 50 000 training images.
ELSEWHERE = {
    "no denoiser (Salman et al. 2020)": ("", 7, 3, 0, "best sigma at each radius"),
    "denoised smoothing (Salman et al. 2020)": ("", 56, 41, 28, "best sigma at each radius"),
    "the same, by queries only": ("", 45, 20, 15, "best sigma at each radius; surrogates"),
    "FO-AE-DS (Zhang et al. 2022)": (76.0, 59.1, 38.5, 18.2, "denoiser and autoencoder"),
    "ZO-AE-DS (Zhang et al. 2022)": (72.2, 54.9, 35.5, 16.4, "the same, by queries only"),
}
CHECKPOINT_SECONDS = 60.0
Row = dict[str, Any]


class Work:
    """What all parts share, and when to stop."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.out = options, options.out
        self.ends = time.monotonic() + 60 * options.budget
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.dataset: Dataset = load_dataset("folder", options.data_dir)
        self.classifier: BaseClassifier = load_classifier(options.classifier).to(self.device)
        shots = draw_shots(self.dataset, ShotCount(options.shots), options.seed)
        images, labels, _ = shots.joined()
        self.images, self.labels = images.to(self.device), labels.to(self.device)
        self.test: HeldOutImages = held_out_images(self.dataset, options.images)
        self.certificates = self.out / "certificates.jsonl"

    @property
    def late(self) -> bool:
        """Whether nothing more is to be started."""
        return bool(time.monotonic() > self.ends)

    def rows(self) -> list[Row]:
        """All certificates so far."""
        if not self.certificates.exists():
            return []
        return [json.loads(line) for line in self.certificates.read_text().splitlines()]


def configurations(options: argparse.Namespace) -> dict[str, DecropConfig]:
    """The trainings, by name."""
    sizes = {name: getattr(options, name) for name in ("depth", "width", "batch_size", "epochs")}
    held = {"sigma": SIGMA, **{name: value for name, value in sizes.items() if value is not None}}
    space = load_space(SPACE)
    tuned = dict(space.start[0]) if options.tuned is None else winner(options.tuned)
    changes: dict[str, dict[str, Any]] = {
        "label consistency": dict(BASELINES["label_consistency"]),
        "MSE": dict(BASELINES["mse"]),
        "published": {},
        "tuned": tuned,
    }
    published = space.named
    return {
        name: DecropConfig.model_validate(published | change | held)
        for name, change in changes.items()
    }


def winner(run: Path) -> dict[str, Any]:
    """The hyperparameters of the winner of a finished run of one setting."""
    rows = pq.read_table(run / "summary.parquet").to_pylist()
    (best,) = [row for row in rows if row["variant"] == "best"]
    study = optuna.load_study(study_name=best["setting"], storage=f"sqlite:///{run / 'study.db'}")
    found: dict[str, Any] = study.trials[best["trial"]].user_attrs["hyperparameters"]
    return found


def decide(work: Work, largest: DecropConfig) -> dict[str, str]:
    """How training and votes compute, decided by the first start; ends if other flags made it."""
    path = work.out / "settings.json"
    given = {
        name: str(value)
        for name, value in vars(work.options).items()
        if name not in ("budget", "out")
    }
    if path.exists():
        settings: dict[str, Any] = json.loads(path.read_text())
        if settings["flags"] != given:
            sys.exit(f"{work.out} was made with other flags: {settings['flags']}")
        decided: dict[str, str] = settings["precisions"]
        return decided
    chosen = work.options.precision
    decided = {"training": chosen, "votes": chosen}
    if chosen == "auto":
        example = nn.Sequential(DnCNN(3, largest.depth, largest.width), work.classifier)
        decided = {
            "training": choose_training_precision(work.classifier, largest, work.images),
            "votes": choose_precision(example.to(work.device).eval(), work.images[0]),
        }
    path.write_text(json.dumps({"flags": given, "precisions": decided}))
    return decided


def train(work: Work, name: str, config: DecropConfig, precision: Any) -> nn.Module | None:
    """The denoiser in front of the classifier; None if the budget ends before its training."""
    path = work.out / f"{name}.safetensors"
    if not path.exists():
        shared = SharedParts(precision=precision)
        training = DecropTraining(
            config, work.classifier, work.images, work.labels, work.options.seed, shared
        )
        state = work.out / f"{name}.training.pt"
        if state.exists():
            training.load_state_dict(torch.load(state, weights_only=True))
        saved = time.monotonic()
        while training.epoch < config.epochs:
            training.train_epoch()
            if work.late or time.monotonic() - saved > CHECKPOINT_SECONDS:
                torch.save(training.state_dict(), state)
                saved = time.monotonic()
            if work.late:
                return None
        path.write_bytes(denoiser_bytes(training.denoiser))
        state.unlink(missing_ok=True)
    denoiser = load_denoiser(path.read_bytes()).to(work.device)
    return nn.Sequential(denoiser, work.classifier).eval()


def certify(work: Work, name: str, model: nn.Module, precision: Any) -> Iterator[Row]:
    """Certificates of the images that have none yet, until the budget ends."""
    done = {row["image"] for row in work.rows() if row["name"] == name}
    model = prepared(model, work.images.shape[1:], precision)
    open_images = [
        (index, image.to(work.device), int(label))
        for index, image, label in zip(
            work.test.indices, work.test.images, work.test.labels, strict=True
        )
        if index not in done
    ]
    # As many images at once as fill a few forward passes.
    group = max(1, 4 * forward_batch(work.images[0]) // work.options.n)
    for first in range(0, len(open_images), group):
        if work.late:
            return
        members = open_images[first : first + group]
        pieces = [
            Piece(image, Noise(SIGMA), plan_blocks(votes, work.options.seed, phase, index))
            for index, image, _ in members
            for phase, votes in (("select", N0), ("estimate", work.options.n))
        ]
        counts = count_votes(model, pieces).cpu()
        for (index, _, label), selection, estimate in zip(
            members, counts[::2], counts[1::2], strict=True
        ):
            top = int(selection.argmax())
            radius = certified_radius(int(estimate[top]), work.options.n, SIGMA, ALPHA)
            predicted = top if radius > 0 else -1
            yield {
                "name": name, "image": index, "label": label, "predicted": predicted,
                "radius": radius,
            }  # fmt: skip


def show(rows: list[Row], options: argparse.Namespace) -> None:
    """Tables of what is certified so far, and of published numbers."""
    header = "| | " + " | ".join(f"r = {r:g}" for r in RADII)
    print(
        f"\ncertified accuracy in %, sigma {SIGMA}, {options.shots} shots a class, n = {options.n}"
    )
    print(f"\n{header} | most frequent answer | images |\n|---|" + "---|" * (len(RADII) + 2))
    right = {}
    for name in NAMES:
        mine = sorted((r for r in rows if r["name"] == name), key=lambda r: r["image"])
        if not mine:
            print(f"| {name} | " + "not yet | " * len(RADII) + "| 0 |")
            continue
        hits = {r["image"]: [certified(r, at) for at in RADII] for r in mine}
        right[name] = hits
        shares = [share_of(int(sum(c)), len(c)) for c in zip(*hits.values(), strict=True)]
        cells = [f"{100 * s.value:.1f} [{100 * s.low:.1f}, {100 * s.high:.1f}]" for s in shares]
        answers = np.unique(
            [r["predicted"] for r in mine if r["predicted"] >= 0], return_counts=True
        )
        top = max(answers[1], default=0) / len(mine)
        print(f"| {name} | {' | '.join(cells)} | {100 * top:.0f} % | {len(mine)} |")
    print(f"\npaired differences in points, on the same images\n\n{header} |")
    print("|---|" + "---|" * len(RADII))
    for name in NAMES:
        for other in ("published", "none"):
            if name in right and other in right and name not in (other, "none"):
                print(f"| {name} - {other} | {' | '.join(paired(right[name], right[other]))} |")
    print(f"\npublished elsewhere\n\n{header} | what differs |\n|---|" + "---|" * (len(RADII) + 1))
    for name, cells_elsewhere in ELSEWHERE.items():
        print(f"| {name} | {' | '.join(map(str, cells_elsewhere))} |")
    print(
        "\nAll of these are for a ResNet-110 on the original images, with denoisers trained on all "
        "50 000 training images instead of a few per class; they are context, not a comparison."
    )


def certified(row: Row, radius: float) -> bool:
    """Whether the image is certified right at `radius`."""
    return bool(row["predicted"] == row["label"] and row["radius"] >= radius)


def paired(mine: dict[int, list[bool]], others: dict[int, list[bool]]) -> list[str]:
    """Differences at each radius on the images that both have, with normal intervals."""
    both = sorted(mine.keys() & others.keys())
    gained = np.array([mine[i] for i in both], float) - np.array([others[i] for i in both], float)
    half = 1.96 * gained.std(axis=0, ddof=1) / np.sqrt(len(both))
    return [
        f"{100 * mean:+.1f} [{100 * (mean - h):+.1f}, {100 * (mean + h):+.1f}]"
        for mean, h in zip(gained.mean(axis=0), half, strict=True)
    ]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data-dir", type=Path, required=True)
    arguments.add_argument("--classifier", type=Path, required=True)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--tuned", type=Path, help="a finished run, whose winner is certified")
    arguments.add_argument("--budget", type=float, default=60, help="minutes")
    arguments.add_argument("--images", type=int, default=500, help="test images to certify")
    arguments.add_argument("--n", type=int, default=10_000)
    arguments.add_argument("--shots", default="50")
    arguments.add_argument("--depth", type=int, default=17)
    arguments.add_argument("--width", type=int, default=64)
    arguments.add_argument(
        "--epochs", type=int, help="of all stages; the published ones if missing"
    )
    arguments.add_argument("--batch-size", type=int, default=None)
    arguments.add_argument("--precision", choices=["auto", "float32", "bfloat16"], default="auto")
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    work, trainings = Work(options), configurations(options)
    precisions = decide(work, trainings["published"])
    print(
        f"on {work.device}, {precisions['training']} for training, {precisions['votes']} for votes"
    )
    for name in NAMES:
        model: nn.Module | None = work.classifier
        if name in trainings:
            config = trainings[name]
            steps = config.epochs * steps_in_epoch(config, len(work.images))
            print(f"{name}: {steps} steps", flush=True)
            model = train(work, name, config, precisions["training"])
        if model is None or work.late:
            print("the budget is spent; the same command goes on from here")
            break
        for row in certify(work, name, model, precisions["votes"]):
            with work.certificates.open("a") as file:
                file.write(json.dumps(row) + "\n")
    show(work.rows(), options)


if __name__ == "__main__":
    main()
