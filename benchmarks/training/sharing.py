"""How many trials should share a GPU, and what memory they need, one after another as well.

Usage: python -m benchmarks.training.sharing [--workers 1 2 4 8] [--batch-size 100]
           [--precision bfloat16] [--depth 17] [--width 64] [--images 400] [--seconds 3]
           [--trials 6] [--device cuda]

Start it without NVIDIA's MPS, and again while its daemon runs (`nvidia-cuda-mps-control -d`). Each
worker is a process that trains a DnCNN against a ResNet-20 on random images of 32 x 32: for the
time of a step their values do not matter. Printed are the steps a second of all workers together;
then, of one worker whose trials follow one another as in a search, the memory that PyTorch
reserves. With a number of images that is not divisible by the batch, there are two batch sizes.
"""

import argparse
import multiprocessing
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from typing import NamedTuple

import torch

from benchmarks.command_line import parser
from trainables.decrop.config import DecropConfig
from trainables.decrop.samples import MemoryStore
from trainables.decrop.training import DecropTraining, SharedParts, steps_in_epoch
from trainables.errors import describe_error
from trainables.models.architectures import CifarResNet
from trainables.models.classifiers import BaseClassifier
from trainables.worker import free_gpu_memory, prepare_worker

# The first ones record the pass and choose kernels.
UNMEASURED_EPOCHS = 3
GB = 1e9


class Found(NamedTuple):
    """Steps a second of a worker, and the most memory, in GB, that PyTorch reserved for it."""

    rate: float
    reserved: float


class Trials:
    """Trainings of one worker that differ in their seeds only, and share their samples."""

    def __init__(self, options: argparse.Namespace, share: float) -> None:
        device = prepare_worker(options.device, 1, share)
        generator = torch.Generator().manual_seed(0)
        self._images = torch.rand(options.images, 3, 32, 32, generator=generator).to(device)
        self._labels = torch.arange(options.images, device=device) % 10
        self._classifier = BaseClassifier(CifarResNet(3)).to(device)
        self._shared = SharedParts(store=MemoryStore(), precision=options.precision)
        self.config = DecropConfig(
            depth=options.depth,
            width=options.width,
            batch_size=options.batch_size,
            epochs=100_000,
            stages=1,
            discriminator_start=0,
            equal_batches=True,
        )

    def start(self, seed: int) -> DecropTraining:
        """The trial with this seed."""
        return DecropTraining(
            self.config, self._classifier, self._images, self._labels, seed, self._shared
        )


def work(
    options: argparse.Namespace, share: float, ready: Barrier, found: "Queue[Found | str]"
) -> None:
    """What one of several workers does; it sends what it found, or why it could not."""
    try:
        found.put(measure(options, share, ready))
    except Exception as error:  # lack of memory has many types
        # The others would wait for it.
        ready.abort()
        found.put(describe_error(error))


def measure(options: argparse.Namespace, share: float, ready: Barrier) -> Found:
    """The rate of a worker, from when all of them are `ready`."""
    trials = Trials(options, share)
    training = trials.start(0)
    for _ in range(UNMEASURED_EPOCHS):
        training.train_epoch()
    ready.wait()
    started = ended = time.perf_counter()
    epochs = 0
    while ended - started < options.seconds:
        # Waits for the GPU, whose losses it returns.
        training.train_epoch()
        ended, epochs = time.perf_counter(), epochs + 1
    steps = epochs * steps_in_epoch(trials.config, options.images)
    return Found(steps / (ended - started), reserved())


def reserved() -> float:
    """The most memory, in GB, that PyTorch has reserved on the GPU; 0 without one."""
    return torch.cuda.max_memory_reserved() / GB if torch.cuda.is_initialized() else 0.0


def together(options: argparse.Namespace, workers: int) -> list[Found | str]:
    """What that many workers find at once, each with its share of the GPU."""
    context = multiprocessing.get_context("spawn")
    ready, found = context.Barrier(workers), context.Queue()
    arguments = (options, 1 / workers, ready, found)
    processes = [context.Process(target=work, args=arguments) for _ in range(workers)]
    for process in processes:
        process.start()
    results = [found.get() for _ in processes]
    for process in processes:
        process.join()
    return results


def in_turn(options: argparse.Namespace) -> None:
    """Print the memory reserved after each of several trials in one process."""
    trials = Trials(options, 1.0)
    for number in range(options.trials):
        free_gpu_memory()
        training = trials.start(number)
        for _ in range(UNMEASURED_EPOCHS):
            training.train_epoch()
        print(f"  trial {number}: {reserved():.1f} GB at most so far", flush=True)
        del training


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    arguments.add_argument("--batch-size", type=int, default=100)
    arguments.add_argument("--precision", choices=["float32", "bfloat16"], default="bfloat16")
    arguments.add_argument("--depth", type=int, default=17)
    arguments.add_argument("--width", type=int, default=64)
    arguments.add_argument("--images", type=int, default=400)
    arguments.add_argument("--seconds", type=float, default=3.0)
    arguments.add_argument("--trials", type=int, default=6)
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = arguments.parse_args()
    print(f"on {options.device}, torch {torch.__version__}, {options.precision}")
    for workers in options.workers:
        answers = together(options, workers)
        found = [answer for answer in answers if isinstance(answer, Found)]
        if len(found) < workers:
            reasons = {answer for answer in answers if isinstance(answer, str) and answer}
            print(f"  {workers} at once: {'; '.join(sorted(reasons))}", flush=True)
            continue
        rate, most = sum(one.rate for one in found), max(one.reserved for one in found)
        print(f"  {workers} at once: {rate:.2f} steps a second, {most:.1f} GB each", flush=True)
    print("one after another:")
    in_turn(options)


if __name__ == "__main__":
    main()
