"""How fast votes are counted: against a plain loop, and against the bare forward pass.

Usage: python -m benchmarks.certification.votes_a_second [--repeats 5] [--threads 1] [--device cuda]

A DnCNN of 17 layers and 64 channels before a CIFAR ResNet-20, at 32 x 32. The plain loop is the
usual way to write Cohen et al.'s counting: one image at a time, float32, default layout, batches of
1000, counts on the host; on a GPU with PyTorch's defaults, which are TF32 in convolutions. Both
sides take turns; printed are medians of votes a second, and ratios.
Quantised noise, on the grid of 8-bit pixels, is counted beside Gaussian noise, and many images
with 100 votes each beside one image with all of them.
The bare forward is only the prepared network, on noise made before, at the best of a few batch
sizes: the difference is the cost of noise and counting. On a GPU the share of the matrix units'
peak is printed as well, as a large bfloat16 product reaches it in the same run.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.command_line import parser
from trainables.acceleration.voting import Precision, prepared
from trainables.models.architectures import CifarResNet
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import Block, Noise, plan_blocks

SHAPE, SIGMA = (3, 32, 32), 0.25
PLAIN_BATCH = 1000
# What is timed at once, by device: votes, batch sizes of the bare forward, and their least images.
VOTES = {"cpu": 500, "cuda": 50_000}
BATCHES = {"cpu": (16, 50, 100, 200), "cuda": (256, 1024, 4096)}
BARE_IMAGES = {"cpu": 200, "cuda": 25_000}
# Operations of one vote of this network, two for a multiplication with its addition.
OPERATIONS = 1.221e9
PRODUCT = 8192
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")
KINDS = ("one image", "many images", "quantised")


class Way(NamedTuple):
    """A way of counting, and how many votes it counts."""

    run: Callable[[], object]
    votes: int


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


def rate(run: Callable[[], object], votes: int) -> float:
    """Votes a second."""
    started = time.perf_counter()
    run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return votes / (time.perf_counter() - started)


def bare(model: nn.Module, batch: int, device: str) -> Way:
    """Forward passes over noisy images, and nothing else."""
    images = torch.rand(batch, *SHAPE, device=device).contiguous(memory_format=torch.channels_last)
    passes = -(-BARE_IMAGES[device] // batch)

    @torch.inference_mode()
    def run() -> None:
        for _ in range(passes):
            model(images)

    return Way(run, passes * batch)


def peak() -> float:
    """Operations a second of a large bfloat16 product."""
    factors = torch.randn(2, PRODUCT, PRODUCT, device="cuda", dtype=torch.bfloat16)
    return statistics.median(
        rate(lambda: [factors[0] @ factors[1] for _ in range(10)], 20 * PRODUCT**3)
        for _ in range(5)
    )


def counted(votes: int, device: str) -> dict[str, list[Piece]]:
    """What is counted: one image, many images, and one image under quantised noise."""
    images = (torch.randint(256, (votes // 100, *SHAPE)) / 255).to(device)
    one = Piece(images[0], Noise(SIGMA), plan_blocks(votes, "benchmark"))
    many = [Piece(image, Noise(SIGMA), [Block(100, i)]) for i, image in enumerate(images)]
    quantised = [one._replace(noise=Noise(SIGMA, 255))]
    return dict(zip(KINDS, ([one], many, quantised), strict=True))


def ways_of_counting(device: str) -> dict[str, Way]:
    """The plain loop, and for each precision this project's counts and the bare forward."""
    model, votes = build().eval().to(device), VOTES[device]
    kinds, usual = counted(votes, device), max(votes // 2, PLAIN_BATCH)
    ways = {"plain": Way(partial(plain, model, kinds["one image"][0].image, usual), usual)}
    for precision in PRECISIONS:
        fast = prepared(model, SHAPE, precision)
        for kind, pieces in kinds.items():
            ways[f"{precision}, {kind}"] = Way(partial(count_votes, fast, pieces), votes)
        for batch in BATCHES[device]:
            ways[f"bare {precision} {batch}"] = bare(fast, batch, device)
    return ways


def show(rates: dict[str, float], device: str) -> None:
    """Rates of this project, beside those of the plain loop and of the bare forward."""
    print(f"  plain loop: {rates['plain']:.0f}")
    for precision in PRECISIONS:
        best = max(rates[f"bare {precision} {batch}"] for batch in BATCHES[device])
        for kind in KINDS:
            ours = rates[f"{precision}, {kind}"]
            print(
                f"  {precision}, {kind}: {ours:.0f}, {ours / rates['plain']:.1f} times the "
                f"plain loop, {ours / best:.0%} of the bare forward ({best:.0f})"
            )
    if device == "cuda":
        most = peak()
        share = rates["bfloat16, one image"] * OPERATIONS / most
        print(f"  bfloat16 peak {most / 1e12:.0f} TFLOP/s: {share:.0%} of it in one image's votes")


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = arguments.parse_args()
    device = options.device
    torch.set_num_threads(options.threads)
    ways = ways_of_counting(device)
    # In turns; the first one warms up.
    rates = [{name: rate(*way) for name, way in ways.items()} for _ in range(options.repeats + 1)]
    medians = {name: statistics.median(each[name] for each in rates[1:]) for name in ways}
    where = f"{options.threads} thread(s)" if device == "cpu" else torch.cuda.get_device_name()
    print(f"votes a second, {where}, torch {torch.__version__}, medians of {options.repeats}")
    show(medians, device)


if __name__ == "__main__":
    main()
