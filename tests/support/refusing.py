"""Loading files that a stranger may send: python -m tests.support.refusing KIND FILE...

Prints a line of JSON for each: the refusal, and how much memory it took. In a process of its own,
whose memory is limited, because a file that is not refused would take that of the machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from trainables.errors import InputError
from trainables.weights.checkpoint import read_weights
from trainables.weights.denoiser_file import read_denoiser
from trainables.weights.sources import ClassifierSpec, load_base_classifier

# What a process may take beside what it has when it starts.
LIMIT = 3 * 2**30
# Far more than any file here takes on any machine, and a process that hangs still ends.
_SECONDS = 600
LOADERS: dict[str, Callable[[Path], object]] = {
    "classifier": lambda path: load_base_classifier(
        ClassifierSpec(str(path)), torch.rand(4, 1, 8, 8)
    ),
    "resnet": lambda path: load_base_classifier(
        ClassifierSpec("torchvision:resnet18", path), torch.rand(2, 3, 32, 32)
    ),
    "weights": read_weights,
    "denoiser": read_denoiser,
}


class Refusal(NamedTuple):
    """A message, empty for a file that was loaded, and the growth of the process in bytes."""

    message: str
    memory: int


def refusals(kind: str, files: list[Path]) -> dict[str, Refusal]:
    """How each of the files is refused, by its name."""
    command = [sys.executable, "-m", "tests.support.refusing", kind, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    found = {name: Refusal(*rest) for name, *rest in map(json.loads, done.stdout.splitlines())}
    assert len(found) == len(files), f"{files[len(found)]} ends the process\n{done.stderr}"
    return found


def main(kind: str, *files: str) -> None:
    """Load the files one by one."""
    torch.set_num_threads(1)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    for file in files:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        message = ""
        try:
            LOADERS[kind](Path(file))
        except InputError as error:
            message = str(error)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        print(json.dumps([Path(file).name, message, 1024 * grown]), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
