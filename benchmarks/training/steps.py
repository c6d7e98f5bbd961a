"""Generation and training beside a plain implementation of the published procedure.

Usage: python -m benchmarks.training.steps --data-dir DIR --classifier FILE [--steps 50]
           [--device cuda]

DIR is an image folder like CIFAR-10's, FILE a classifier trained on it. All sides run in turn in
one process, on the same images and from the same weights; what is printed are medians and their
ratios. The loss terms of both sides are asserted to agree on the same inputs, and the loss curves
over all steps to lie no further apart than those of two plain trainings with different noise.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from benchmarks.command_line import parser
from benchmarks.training.plain import PlainTraining
from benchmarks.training.plain import generate as plain_generate
from benchmarks.training.plain import mmd as plain_mmd
from benchmarks.training.plain import similarity as plain_similarity
from trainables.acceleration.voting import Precision
from trainables.data.datasets import load_dataset
from trainables.data.shots import ShotCount
from trainables.data.splits import draw_shots
from trainables.decrop import losses
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import GeneratedSamples, MemoryStore, generate
from trainables.decrop.training import DecropTraining, SharedParts
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import build_denoiser
from trainables.models.discriminator import Discriminator
from trainables.weights.checkpoint import load_classifier

IMAGES = 100
GENERATION_GOAL = {"cpu": 8, "cuda": 50}
# Batch norm sees all views at once, but one at a time, as in the plain side, in the first.
STEP_GOAL = {"view by view": 1.3, "float32": 1.7, "bfloat16": 7}
PRECISIONS = ("float32", "bfloat16")
OTHER_NOISE = "plain, other noise"

Losses = dict[str, float]
T = TypeVar("T")


def timed(action: Callable[[], T], device: str) -> tuple[float, T]:
    """The seconds that `action` takes, the accelerator's work included, and what it returns."""
    if device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    result = action()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started, result


def compare_generation(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, repeats: int
) -> None:
    """Both kinds of samples for 100 images: plain, batched float32, batched bfloat16."""
    for interpolation_steps in (1, 50):
        exact = DecropConfig(interpolation_steps=interpolation_steps)
        sides: dict[str, Callable[[], Sequence[Tensor]]] = {
            "plain": partial(plain_generate, classifier, images, labels, exact),
            "float32": partial(generate_anew, classifier, images, labels, exact),
            "bfloat16": partial(generate_anew, classifier, images, labels, exact, "bfloat16"),
        }
        seconds = alternate(sides, images.device.type, repeats)
        print(f"\ngeneration of {len(images)} samples, {interpolation_steps} interpolation steps")
        report(seconds, dict.fromkeys(PRECISIONS, GENERATION_GOAL[images.device.type]))
        right = {name: accuracy(classifier, side()[0], labels) for name, side in sides.items()}
        print(
            "  accuracy on boundary samples: " + ", ".join(f"{n} {a:.2f}" for n, a in right.items())
        )
        apart = max(abs(share - right["plain"]) for share in right.values())
        assert apart <= 0.1, "the attacks differ in strength"


def generate_anew(
    classifier: BaseClassifier,
    images: Tensor,
    labels: Tensor,
    config: DecropConfig,
    precision: Precision = "float32",
) -> GeneratedSamples:
    """This project's samples, which no store holds yet."""
    rounded = precision == "bfloat16"
    with torch.autocast(images.device.type, torch.bfloat16, enabled=rounded):
        return generate(classifier, images, labels, config, 0, MemoryStore())


def accuracy(classifier: BaseClassifier, images: Tensor, labels: Tensor) -> float:
    """Share of images that the classifier gives their label."""
    with torch.no_grad():
        return float((classifier(images).argmax(1) == labels).float().mean())


def compare_steps(classifier: BaseClassifier, images: Tensor, labels: Tensor, steps: int) -> None:
    """One training step of the published size: plain (with two seeds) and this project's."""
    check_terms(classifier, images)
    sides, device = steps_of_all(classifier, images, labels, steps), images.device.type
    curves: dict[str, list[Losses]] = {name: [] for name in sides}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(steps):
        for name, step in sides.items():
            taken, terms = timed(partial(step, number / steps), device)
            seconds[name].append(taken)
            curves[name].append(terms)
    print(f"\none step, DnCNN 17 x 64, {len(images)} images, {steps} steps")
    report(seconds, STEP_GOAL)
    compare_curves(curves)


def steps_of_all(
    classifier: BaseClassifier, images: Tensor, labels: Tensor, steps: int
) -> dict[str, Callable[[float], Losses]]:
    """One training step of each side, which is told what share of the steps is done."""
    separate = DecropConfig(
        batch_size=len(images),
        epochs=steps,
        # A step of the published second stage.
        stages=1,
        discriminator_start=0,
        # The published schedule is constant over so few steps.
        lr_decay=1.0,
    )
    alike = DecropTraining(separate, classifier, images, labels, 0)
    config = separate.model_copy(update={"joined_batch_norm": True})
    exact = DecropTraining(config, classifier, images, labels, 0)
    mixed = DecropTraining(config, classifier, images, labels, 0, SharedParts(precision="bfloat16"))
    return {
        "plain": plain_training(config, classifier, exact.views, 0).step,
        OTHER_NOISE: plain_training(config, classifier, exact.views, 1).step,
        "view by view": lambda _: alike.train_epoch(),
        "float32": lambda _: exact.train_epoch(),
        "bfloat16": lambda _: mixed.train_epoch(),
    }


def plain_training(
    config: DecropConfig, classifier: BaseClassifier, views: list[Tensor], seed: int
) -> PlainTraining:
    """The plain side, with the weights that this project's training begins with."""
    torch.manual_seed(0)
    images = views[0]
    denoiser = build_denoiser("dncnn", images.shape[1], config.model_dump()).to(images.device)
    discriminator = Discriminator(classifier.probe(images[:2])[1]).to(images.device)
    return PlainTraining(config, classifier, denoiser, discriminator, views, seed)


def check_terms(classifier: BaseClassifier, images: Tensor) -> None:
    """The loss terms of both sides agree on the same inputs."""
    noisy = (images + 0.25 * torch.randn(images.shape, device=images.device)).clamp(0, 1)
    with torch.no_grad():
        (logits, features), (other, moved) = (
            classifier.logits_and_features(x) for x in (images, noisy)
        )
    torch.testing.assert_close(losses.mmd(features, moved), plain_mmd(features, moved))
    torch.testing.assert_close(
        losses.logit_similarity(other, logits), plain_similarity(other, logits)
    )
    print("\nthe loss terms of both sides agree on the same inputs")


def compare_curves(curves: dict[str, list[Losses]]) -> None:
    """The curves lie at most twice as far from the plain one as a different seed's does."""
    for term in curves["plain"][0]:
        values = {name: np.array([step[term] for step in curve]) for name, curve in curves.items()}
        noise = float(np.abs(values[OTHER_NOISE] - values["plain"]).mean())
        line = f"  {term}: plain {values['plain'][0]:.3f} -> {values['plain'][-5:].mean():.3f}"
        for name in STEP_GOAL:
            apart = float(np.abs(values[name] - values["plain"]).mean())
            line += f"; {name} -> {values[name][-5:].mean():.3f}, {apart:.3f} apart"
            assert apart <= 2 * noise + 1e-3, f"{term}: {name} is {apart} from plain, noise {noise}"
        print(f"{line} (other noise: {noise:.3f})")


def show_scaling(classifier: BaseClassifier, data_dir: Path, device: str) -> None:
    """Seconds of generation and of an epoch for several shot counts, with a small denoiser."""
    dataset = load_dataset("folder", data_dir)
    config = DecropConfig(depth=5, width=16, batch_size=50)
    counts, generation, epoch = [], [], []
    for shots in ("5", "10", "20", "50"):
        drawn = draw_shots(dataset, ShotCount(shots), 0)
        images = torch.cat((drawn.train_images, drawn.tuning_images)).to(device)
        labels = torch.cat((drawn.train_labels, drawn.tuning_labels)).to(device)
        store = MemoryStore()
        making = partial(generate, classifier, images, labels, config, 0, store)
        with torch.autocast(images.device.type, torch.bfloat16):
            generation.append(timed(making, device)[0])
        training = DecropTraining(
            config, classifier, images, labels, 0, SharedParts(store=store, precision="bfloat16")
        )
        training.train_epoch()
        epoch.append(statistics.median(timed(training.train_epoch, device)[0] for _ in range(5)))
        counts.append(len(images))
    print("\ncost against the number of images (DnCNN 5 x 16, bfloat16)")
    for name, seconds in (("generation", generation), ("an epoch", epoch)):
        correlation = np.corrcoef(counts, seconds)[0, 1]
        each = ", ".join(
            f"{n}: {s:.2f} s ({1000 * s / n:.1f} ms each)"
            for n, s in zip(counts, seconds, strict=True)
        )
        print(f"  {name}: {each}; correlation with a line {correlation:.4f}")


def alternate(
    sides: Mapping[str, Callable[[], object]], device: str, repeats: int
) -> dict[str, list[float]]:
    """Seconds of each side, run in turn `repeats` times after one unmeasured round."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(repeats + 1):
        for name, action in sides.items():
            taken, _ = timed(action, device)
            if number:
                seconds[name].append(taken)
    return seconds


def report(seconds: dict[str, list[float]], goals: dict[str, float]) -> None:
    """Medians, and their ratios to the plain one."""
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    print(f"  plain: {medians['plain']:.3f} s")
    for name, goal in goals.items():
        ratio = medians["plain"] / medians[name]
        print(f"  {name}: {medians[name]:.3f} s, {ratio:.1f} times faster (goal {goal})")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--data-dir", type=Path, required=True)
    arguments.add_argument("--classifier", type=Path, required=True)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--steps", type=int, default=50)
    options = arguments.parse_args()
    device = options.device
    classifier = load_classifier(options.classifier).to(device)
    drawn = draw_shots(load_dataset("folder", options.data_dir), ShotCount("20"), 0)
    images = drawn.train_images[:IMAGES].to(device)
    labels = drawn.train_labels[:IMAGES].to(device)
    name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} cores"
    print(f"{name}, torch {torch.__version__}")
    compare_generation(classifier, images, labels, options.repeats)
    show_scaling(classifier, options.data_dir, device)
    compare_steps(classifier, images, labels, options.steps)


if __name__ == "__main__":
    main()
