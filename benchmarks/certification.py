"""How fast votes are counted: against a plain loop, and against the bare forward pass.

Usage: python benchmarks/certification.py [--repeats 5] [--threads 1]

A DnCNN of 17 layers and 64 channels before a CIFAR ResNet-20, at 32 x 32. The plain loop is the
usual way to write Cohen et al.'s counting: one image at a time, float32, default layout, batches of
1000, counts on the host. Both sides take turns; printed are medians of votes a second, and ratios.
Noise on the grid of 8-bit pixels (--noise quantised) is counted beside Gaussian noise.
The bare forward is the prepared network alone, on noise that is there already, at the best of a few
batch sizes: what is missing to it is the cost of noise and counting.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainables.models.classifiers import BaseClassifier, CifarResNet
from trainables.models.denoisers import DnCNN
from trainables.smoothing.certify import total_votes
from trainables.smoothing.fast import Precision, prepared
from trainables.smoothing.noise import plan_blocks

SHAPE, SIGMA = (3, 32, 32), 0.25
PLAIN_BATCH = 1000
BATCHES = (16, 50, 100, 200)
NOISES = {"gaussian": 0, "quantised": 255}


def build() -> nn.Module:
    """The network; its speed does not depend on its weights, but its statistics must be sane."""
    torch.manual_seed(0)
    denoiser, resnet = DnCNN(3, 17, 64), CifarResNet(3, 10, 3)
    with torch.no_grad():
        for network in (denoiser, resnet):
            network.train()(torch.rand(32, *SHAPE))
    return nn.Sequential(denoiser.eval(), BaseClassifier(resnet.eval(), (0.5,) * 3, (0.25,) * 3))


@torch.no_grad()
def plain(model: nn.Module, image: Tensor, votes: int) -> list[int]:
    """Votes per class, as the field counts them."""
    counts = [0] * 10
    while votes > 0:
        batch = image.repeat((min(votes, PLAIN_BATCH), 1, 1, 1))
        votes -= len(batch)
        for top in model(batch + SIGMA * torch.randn_like(batch)).argmax(1).cpu().numpy():
            counts[top] += 1
    return counts


def rate(count: Callable[[], object], votes: int) -> float:
    """Votes a second."""
    started = time.perf_counter()
    count()
    return votes / (time.perf_counter() - started)


def bare(model: nn.Module, batch: int) -> Callable[[], object]:
    """Forward passes over so many noisy images, 200 at least, and nothing else."""
    images = torch.rand(batch, *SHAPE).contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(-(-200 // batch)):
            model(images)

    return run


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    model, image = build().eval(), torch.rand(SHAPE)
    ways: dict[str, tuple[Callable[[], object], int]] = {
        "plain": (lambda: plain(model, image, PLAIN_BATCH), PLAIN_BATCH)
    }
    precisions: tuple[Precision, ...] = ("float32", "bfloat16")
    for precision in precisions:
        fast = prepared(model, SHAPE, precision)

        for noise, steps in NOISES.items():

            def count(fast: nn.Module = fast, steps: int = steps) -> object:
                return total_votes(fast, image, SIGMA, plan_blocks(500, "benchmark"), steps)

            ways[f"{precision} {noise}"] = (count, 500)
        for batch in BATCHES:
            ways[f"bare {precision} {batch}"] = (bare(fast, batch), batch * -(-200 // batch))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(options.repeats + 1):
        for name, (way, votes) in ways.items():
            found = rate(way, votes)
            if repeat:  # the first one warms up
                rates[name].append(found)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    print(f"votes a second, {options.threads} thread(s), medians of {options.repeats}")
    print(f"  plain loop: {medians['plain']:.0f}")
    for precision in precisions:
        best = max(medians[f"bare {precision} {batch}"] for batch in BATCHES)
        for noise in NOISES:
            ours = medians[f"{precision} {noise}"]
            print(
                f"  {precision}, {noise}: {ours:.0f}, {ours / medians['plain']:.1f} times the "
                f"plain loop, {ours / best:.0%} of the bare forward ({best:.0f})"
            )


if __name__ == "__main__":
    main()
