"""What the report of a large run takes: seconds of one core, megabytes of the page and of memory.

Usage: python -m benchmarks.results.report [--trials 1000] [--images 10000] [--keep FOLDER]

The run has one setting with that many trials of 24 hyperparameters, and the certificates of four
variants and of the published values at their best sigma. The report is built by its command in a
new process, whose start and imports count. --keep leaves the run in that folder.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.command_line import parser
from results import files
from results.insight import Insight
from results.schema import CERTIFICATES, VARIANTS, classes_schema, trials_schema
from results.store import write_json, write_table
from results.summary import class_rows, write_summary
from tests.support.invented import RADII, certificate_rows, summary_of, trial_rows, write_run

SETTING = "digits-10shot"
HYPERPARAMETERS = 24


def write(folder: Path, trials: int, images: int) -> None:
    """Write the run: invented, but as large as real ones, with no two radii alike."""
    write_run(folder, (SETTING,))
    place = folder / SETTING
    groups = {name: certificate_rows(name, images) for name in VARIANTS}
    rng = np.random.default_rng(0)
    for group in groups.values():
        for row in group:
            row["radius"] *= 1 - 1e-6 * rng.random()
    swept = [{**row, "variant": "published_best_sigma"} for row in groups["published"]]
    certificates = [row for group in groups.values() for row in group]
    write_table(place / files.CERTIFICATES, certificates, CERTIFICATES)
    write_table(place / files.FRONT, swept, CERTIFICATES)
    classes = class_rows(groups, [str(label) for label in range(10)], RADII)
    write_table(place / files.CLASSES, classes, classes_schema(RADII))
    write_summary(folder / files.SUMMARY, [summary_of(n, group) for n, group in groups.items()])
    names = [f"hyperparameter_{number}" for number in range(HYPERPARAMETERS)]
    kinds = {name: pa.float64() for name in names}
    known = set(trials_schema({}).names)
    base = [{k: v for k, v in row.items() if k in known} for row in trial_rows()]
    rows = [
        {
            **base[2 + number % 12],
            **dict(zip(names, 10 ** rng.uniform(-4, 0, HYPERPARAMETERS), strict=True)),
            "number": number,
            "root": number,
            "objective": float(rng.random()),
        }
        for number in range(trials)
    ]
    write_table(place / files.TRIALS, rows, trials_schema(kinds))
    scores = {number: [(9, rng.random()), (27, rng.random())] for number in range(trials)}
    shares = dict(zip(names, rng.dirichlet(np.ones(HYPERPARAMETERS)).tolist(), strict=True))
    write_json(place / files.INSIGHT, Insight("score", shares, scores).content())


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--images", type=int, default=10_000)
    arguments.add_argument("--keep", type=Path)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        write(folder, options.trials, options.images)
        command = [sys.executable, "-m", "results.report", str(folder)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        size = (folder / files.REPORT).stat().st_size
    print(f"{used.ru_utime + used.ru_stime:7.2f} s of one core")
    print(f"{size / 1e6:7.2f} MB of {files.REPORT}")
    print(f"{used.ru_maxrss / 1e3:7.0f} MB of memory")


if __name__ == "__main__":
    main()
