"""What it costs to certify one image, as small as the digits, through an export in a new process.

Usage: python -m benchmarks.certification.start_up [--repeats 5] [--votes 7614]
           [--precision float32] [--threads 1]

The export holds a DnCNN of 5 layers and 16 channels, in front of the CNN that is the default for
the digits. Printed are medians of the CPU seconds, user and system, of each step, and the number
of modules that it imports. --threads is what is passed to `SmoothedClassifier`.
"""

import json
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.command_line import parser

# The argument with which the benchmark calls itself.
INSIDE = "--inside"
SHAPE, N0 = (1, 8, 8), 100


def write(folder: Path, votes: int, precision: str) -> None:
    """Write an export with sane statistics; its speed does not depend on its weights."""
    import torch
    from torch import nn

    from trainables.models.architectures import DigitsCNN
    from trainables.models.classifiers import BaseClassifier
    from trainables.models.denoisers import DnCNN
    from trainables.smoothing.exporting import export_files
    from trainables.smoothing.noise import Noise
    from trainables.smoothing.procedures import Fixed
    from trainables.weights.checkpoint import save_classifier

    torch.manual_seed(0)
    denoiser, network = DnCNN(1, 5, 16), DigitsCNN()
    with torch.no_grad():
        for module in (denoiser, network):
            module.train()(torch.rand(64, *SHAPE)).sum()
    model = nn.Sequential(denoiser.eval(), BaseClassifier(network.eval()))
    procedure = Fixed(N0, votes - N0, 0.001)
    files = export_files(model, SHAPE, Noise(0.25), procedure, precision=precision)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    save_classifier(folder / "classifier.pt", "digits_cnn", network)


def certify(folder: Path, threads: int) -> None:
    """Certify an image, and print the CPU seconds and imports of each step as JSON."""
    steps: dict[str, tuple[float, int]] = {}
    reached = [0.0, 0]

    def mark(step: str) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        now = used.ru_utime + used.ru_stime, len(sys.modules)
        steps[step] = now[0] - reached[0], now[1] - int(reached[1])
        reached[:] = now

    mark("start of Python")
    import torch

    mark("import of PyTorch")
    from trainables.smoothing import SmoothedClassifier
    from trainables.weights.checkpoint import load_classifier

    mark("import of this package, with SciPy and pydantic")
    classifier = load_classifier(folder / "classifier.pt")
    mark("classifier")
    smoothed = SmoothedClassifier.load(folder, classifier, threads=threads)
    mark("export: reading, checks, preparation")
    image = torch.full(SHAPE, 0.5)
    smoothed.certify(image)
    mark("votes of a first image")
    smoothed.certify(image)
    mark("votes of a second image")
    print(json.dumps(steps))


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--repeats", type=int, default=5)
    arguments.add_argument("--votes", type=int, default=7614)
    arguments.add_argument("--precision", default="float32")
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), options.votes, options.precision)
        command = [sys.executable, "-m", __spec__.name, INSIDE, folder, str(options.threads)]
        runs = [
            json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            for _ in range(options.repeats)
        ]
    medians = {step: statistics.median(run[step][0] for run in runs) for step in runs[0]}
    for step, seconds in medians.items():
        print(f"{seconds:7.2f} s  {runs[0][step][1]:5d} modules  {step}")
    once = sum(seconds for step, seconds in medians.items() if "second" not in step)
    print(f"{once:7.2f} s  in total for one image of {options.votes} votes")


if __name__ == "__main__":
    if sys.argv[1:2] == [INSIDE]:
        certify(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main()
