"""The memory of a training step on large images, with and without keeping all activations.

Usage: python -m benchmarks.training.memory [--images 40] [--size 224] [--classifier resnet50]
           [--depth 5] [--width 32] [--threads 1] [--keep]

Trains one step of DE-CROP on a CPU, with three views of each image, in front of one of
torchvision's classifiers with random weights. Printed are the peak of the process's memory before
the step and after it, and the CPU seconds of the step. --keep keeps all activations, as steps on
small images do; run the command twice, because a peak belongs to a process.
"""

import resource
import time

import torch
import torchvision

from benchmarks.command_line import parser
from trainables.decrop import recomputing
from trainables.decrop.config import DecropConfig
from trainables.decrop.training import DecropTraining
from trainables.models.architectures import IMAGENET
from trainables.models.classifiers import BaseClassifier


def peak() -> float:
    """The peak of this process's memory so far, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--images", type=int, default=40, help="in the step")
    arguments.add_argument("--size", type=int, default=224)
    arguments.add_argument("--classifier", default="resnet50")
    arguments.add_argument("--depth", type=int, default=5)
    arguments.add_argument("--width", type=int, default=32)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--keep", action="store_true", help="keep all activations")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if options.keep:
        recomputing.KEPT_PIXELS = 2**62
    network = torchvision.models.get_model(options.classifier, weights=None)
    images = torch.rand(options.images, 3, options.size, options.size)
    labels = torch.arange(options.images) % 10
    config = DecropConfig(
        epochs=1,
        stages=1,
        batch_size=options.images,
        depth=options.depth,
        width=options.width,
        # Samples are generated a few at a time, whatever their size.
        attack_steps=1,
        interpolation_steps=1,
    )
    training = DecropTraining(config, BaseClassifier(network, *IMAGENET), images, labels, seed=0)
    before, started = peak(), time.process_time()
    training.train_epoch()
    seconds = time.process_time() - started
    print(f"{before:.1f} GB before the step, {peak():.1f} GB after it, {seconds:.0f} s of CPU time")


if __name__ == "__main__":
    main()
