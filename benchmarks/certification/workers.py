"""How much faster two workers count votes than one: on this host, or on two hosts.

Usage: python -m benchmarks.certification.workers [--hosts 1] [--images 60] [--votes 100]
           [--repeats 3]

A DnCNN of 17 layers and 64 channels before a ResNet-20, at 32 x 32 and in float32, counts votes
through the same tasks as certification, on a Ray with one core and on one with two. With --hosts 2
the second core is that of a second host: two network namespaces joined by a cable, as in
tests/cluster; that needs root and iproute2. Printed are medians of votes a second, without the
start of the workers, and their ratio. Both cores must be idle.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import ray

from benchmarks.certification.votes_a_second import SHAPE, SIGMA, build
from benchmarks.command_line import parser
from tests.support.counts import count_votes
from tests.support.hosts import TwoHosts
from trainables.acceleration.voting import prepared
from trainables.smoothing.certify import Request
from trainables.smoothing.noise import Noise
from tuning.cluster.resources import Resources
from tuning.votes.job import Evaluation, VoteJob
from tuning.votes.store import VoteStore

# The argument with which the benchmark calls itself on a host of the cluster.
INSIDE = "--inside"


def measure(workers: int, images: int, votes: int, repeats: int) -> list[float]:
    """Votes a second, each time; the first time, while workers start, is not among them."""
    # Not above: parts of a model would be pickled as parts of this script, which workers lack.
    import torch

    torch.manual_seed(0)
    model, pixels = prepared(build().eval(), SHAPE, "float32"), torch.rand(images, *SHAPE)

    def evaluate() -> Evaluation[list[int]]:
        return (yield Request("estimate", 0, votes))

    rates = []
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats + 1):
            # A different seed gives other votes.
            job = VoteJob(
                "x", model, "hash", pixels, range(images), Noise(SIGMA), repeat, evaluate, votes
            )
            started = time.perf_counter()
            count_votes([job], VoteStore(Path(folder, "votes.db")), Resources(1, 0.0, workers))
            rates.append(images * votes / (time.perf_counter() - started))
    return rates[1:]


def here(workers: int, options: argparse.Namespace) -> list[float]:
    """On a Ray of this host, with one core for each worker."""
    ray.init("local", num_cpus=workers, include_dashboard=False, log_to_driver=False)
    try:
        return measure(workers, options.images, options.votes, options.repeats)
    finally:
        ray.shutdown()


@contextlib.contextmanager
def two_hosts(options: argparse.Namespace) -> Iterator[Callable[[int], list[float]]]:
    """The same on a cluster that has one host, and then two."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = TwoHosts(Path(folder), os.environ)
        sizes = [str(n) for n in (options.images, options.votes, options.repeats)]

        def measured(workers: int) -> list[float]:
            if workers == 2:
                hosts.start_second()
            hosts.wait_for_nodes(workers)
            module = "benchmarks.certification.workers"
            inside = hosts.on_first("-m", module, INSIDE, hosts.address, str(workers), *sizes)
            return [float(rate) for rate in inside.splitlines()[-1].split()]

        try:
            hosts.build()
            hosts.start_head()
            yield measured
        finally:
            hosts.close()


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--hosts", type=int, default=1, choices=(1, 2))
    arguments.add_argument("--images", type=int, default=60)
    arguments.add_argument("--votes", type=int, default=100)
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if options.hosts == 1:
        rates = {workers: here(workers, options) for workers in (1, 2)}
    else:
        with two_hosts(options) as measured:
            rates = {workers: measured(workers) for workers in (1, 2)}
    one, two = (statistics.median(found) for found in rates.values())
    print(f"votes a second on {options.hosts} host(s), medians of {options.repeats}")
    print(f"  one worker {one:.0f}, two {two:.0f}: {two / one:.2f} times (goal 1.8)")


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        ray.init(sys.argv[2], log_to_driver=False)
        print(*measure(*map(int, sys.argv[3:])))
    else:
        main()
