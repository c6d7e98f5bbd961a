"""How fast votes are counted at 224 x 224: against a plain loop, and against the bare forward pass.

Usage: python -m benchmarks.certification.large_images [--classifier resnet50] [--repeats 3]
           [--threads 1] [--device cuda] [--denoiser dncnn] [--depth 5] [--width 32]

A denoiser before one of torchvision's classifiers, with random weights. The plain loop is the usual
way to write Cohen et al.'s counting: float32, default layout, counts on the host. The bare forward
is only the prepared network on noise made before, at the best of a few batch sizes; on a GPU it is
also compiled. All take turns; printed are medians of votes a second, and ratios.
"""

import argparse
import statistics
from functools import partial
from typing import Any

import torch
import torchvision
from torch import Tensor, nn

from benchmarks.certification.votes_a_second import PRECISIONS, SIGMA, Way, rate
from benchmarks.command_line import parser
from trainables.acceleration.voting import prepared
from trainables.models.architectures import IMAGENET
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import build_denoiser
from trainables.smoothing.counting import Piece, count_votes
from trainables.smoothing.noise import Noise, plan_blocks

SHAPE, CLASSES = (3, 224, 224), 1000
VOTES = {"cpu": 8, "cuda": 2000}
PLAIN_BATCH = {"cpu": 8, "cuda": 400}
BATCHES = {"cpu": (1, 2, 4, 8), "cuda": (64, 128, 256)}


def build(options: argparse.Namespace) -> nn.Module:
    """The denoiser and the classifier; their speed does not depend on their weights."""
    torch.manual_seed(0)
    sizes = {"depth": options.depth, "width": options.width, "levels": options.depth}
    denoiser = build_denoiser(options.denoiser, SHAPE[0], sizes)
    network = torchvision.models.get_model(options.classifier, weights=None)
    return nn.Sequential(denoiser, BaseClassifier(network, *IMAGENET)).eval().to(options.device)


@torch.no_grad()
def plain(model: nn.Module, image: Tensor, votes: int, batch: int) -> Tensor:
    """Votes per class, as the field counts them."""
    counts = torch.zeros(CLASSES, dtype=torch.int64)
    for _ in range(votes // batch):
        noisy = image.repeat((batch, 1, 1, 1))
        top = model(noisy + SIGMA * torch.randn_like(noisy)).argmax(1).cpu()
        counts += torch.bincount(top, minlength=CLASSES)
    return counts


def bare(model: nn.Module, batch: int, device: str) -> Way:
    """Forward passes over noisy images, and nothing else."""
    images = torch.rand(batch, *SHAPE, device=device).contiguous(memory_format=torch.channels_last)
    passes = VOTES[device] // batch

    @torch.inference_mode()
    def run() -> None:
        for _ in range(passes):
            model(images)

    return Way(run, passes * batch)


def ways_of_counting(options: argparse.Namespace) -> dict[str, Way]:
    """The plain loop, and for each precision this project's counts and the bare forward."""
    device, model = options.device, build(options)
    votes, image = VOTES[device], torch.rand(SHAPE, device=device)
    ways = {"plain": Way(partial(plain, model, image, votes, PLAIN_BATCH[device]), votes)}
    piece = Piece(image, Noise(SIGMA), plan_blocks(votes, "benchmark"))
    for precision in PRECISIONS:
        fast = prepared(model, SHAPE, precision)
        ways[precision] = Way(partial(count_votes, fast, [piece]), votes)
        compiled: Any = torch.compile(fast)
        for batch in BATCHES[device]:
            ways[f"bare {precision} {batch}"] = bare(fast, batch, device)
            if device == "cuda":
                ways[f"bare {precision} {batch} compiled"] = bare(compiled, batch, device)
    return ways


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--classifier", default="resnet50")
    arguments.add_argument("--denoiser", default="dncnn")
    arguments.add_argument("--depth", type=int, default=5, help="of a unet: its levels")
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    ways = ways_of_counting(options)
    # In turns; the first one warms up.
    rates = [{name: rate(*way) for name, way in ways.items()} for _ in range(options.repeats + 1)]
    medians = {name: statistics.median(each[name] for each in rates[1:]) for name in ways}
    print(f"votes a second, {options.device}, {options.classifier}, medians of {options.repeats}")
    print(f"  plain loop: {medians['plain']:.3g}")
    for precision in PRECISIONS:
        name = max((n for n in ways if n.startswith(f"bare {precision}")), key=medians.__getitem__)
        ours, best = medians[precision], medians[name]
        print(
            f"  {precision}: {ours:.3g}, {ours / medians['plain']:.1f} times the plain loop, "
            f"{ours / best:.0%} of {name} ({best:.3g})"
        )


if __name__ == "__main__":
    main()
