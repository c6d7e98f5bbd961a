"""What better Gaussian noise costs: samplers, and the votes a second that they leave on a CPU core.

Usage: python -m benchmarks.certification.noise [--repeats 5]

For each network the time of 100 votes is that of its passes and that of 100 draws; both are
measured apart, because the passes take so much longer that a difference would be lost in their
variation. Printed are medians: nanoseconds a pixel and channel, and by how much fewer votes a
second there are than with PyTorch's float32 sampler, which has nothing beyond 5.77 sigma.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks.command_line import parser
from trainables.acceleration.voting import Precision, prepared
from trainables.models.architectures import CifarResNet, DigitsCNN, find_architecture
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.counting import Piece, forward_batch
from trainables.smoothing.noise import BLOCK_SIZE, Block, Noise

SIGMA = 0.25
Shape = tuple[int, int, int]


def usual(image: Tensor, block: Block, dtype: torch.dtype) -> Tensor:
    """Copies with noise from PyTorch's sampler."""
    generator = torch.Generator().manual_seed(block.seed)
    noise = torch.randn((block.size, *image.shape), generator=generator, dtype=dtype)
    return noise.mul_(SIGMA).add_(image).float()


SAMPLERS: dict[str, Callable[[Tensor, Block], Tensor]] = {
    "PyTorch, float32": lambda image, block: usual(image, block, torch.float32),
    "PyTorch, float64": lambda image, block: usual(image, block, torch.float64),
    "this project": lambda image, block: Piece(image, Noise(SIGMA), ()).copies(block),
    "quantised": lambda image, block: Piece(image, Noise(SIGMA, 255), ()).copies(block),
}


def networks() -> dict[str, tuple[nn.Module, Shape]]:
    """From the smallest to the largest, and the images that they take."""
    imagenet = find_architecture("resnet18")
    assert imagenet is not None
    digits, resnet = DigitsCNN(), CifarResNet(3)
    return {
        "digits: CNN": (BaseClassifier(digits), (1, 8, 8)),
        "digits: DnCNN 5 x 16 and CNN": (
            nn.Sequential(DnCNN(1, 5, 16), BaseClassifier(digits)),
            (1, 8, 8),
        ),
        "32 x 32: ResNet-20": (BaseClassifier(resnet), (3, 32, 32)),
        "32 x 32: DnCNN 17 x 64 and ResNet-20": (
            nn.Sequential(DnCNN(3, 17, 64), BaseClassifier(resnet)),
            (3, 32, 32),
        ),
        "224 x 224: ResNet-18": (BaseClassifier(imagenet.build(3, 1000)), (3, 224, 224)),
    }


def seconds(act: Callable[[int], object], repeats: int) -> float:
    """The median CPU time of one call; the first one warms up."""
    found = []
    for number in range(repeats + 1):
        started = time.process_time()
        act(number)
        found.append(time.process_time() - started)
    return statistics.median(found[1:])


def draw_seconds(draw: Callable[[Tensor, Block], Tensor], image: Tensor, repeats: int) -> float:
    """The time that the noise of one vote takes."""
    return seconds(lambda number: draw(image, Block(BLOCK_SIZE, number)), repeats) / BLOCK_SIZE


@torch.inference_mode()
def pass_seconds(model: nn.Module, shape: Shape, precision: Precision, repeats: int) -> float:
    """The time that the network takes for one vote."""
    fast = prepared(model.eval(), shape, precision)
    rows = forward_batch(torch.empty(shape))
    images = torch.rand(rows, *shape).contiguous(memory_format=torch.channels_last)
    return seconds(lambda _: fast(images), repeats) / rows


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    repeats = arguments.parse_args().repeats
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, (model, shape) in networks().items():
        image, pixels = torch.randint(256, shape) / 255, torch.Size(shape).numel()
        draws = {name: draw_seconds(draw, image, repeats) for name, draw in SAMPLERS.items()}
        print(name)
        print("  ns: " + ", ".join(f"{s} {t / pixels * 1e9:.1f}" for s, t in draws.items()))
        for precision in ("float32", "bfloat16"):
            each = pass_seconds(model, shape, precision, repeats)
            before = each + draws["PyTorch, float32"]
            lost = ", ".join(f"{s} {1 - before / (each + t):.1%}" for s, t in draws.items())
            print(f"  {precision}, {1 / before:.0f} votes a second; fewer: {lost}")


if __name__ == "__main__":
    main()
