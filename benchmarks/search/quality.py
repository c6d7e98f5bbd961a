"""What the search is worth: certificates on test images, against what needs less or no search.

Usage: python -m benchmarks.search.quality --out FOLDER [--shots 3,5,10] [--seeds 5] [--trials 24]
           [--development] [--space digits] [FLAGS OF tuning.launch]

For each shot count and seed there are three runs, all certified on the same test images: this
project's search, which also certifies the baselines; the space's first start point alone, without
any search; and random search without pruning, from the same start points, with the same
confirmation, for twice as many training epochs as the first one spent on its own proposals. Printed
are means over the seeds, and paired differences with 95 % t intervals, of the mean certified
accuracy at 0, 0.25, 0.5 and 0.75, and of the ACR. Runs that are there already are not repeated, so
the benchmark can be interrupted. --trials is the number of this search; further flags, such as
those that name a data set and a classifier, are passed to all three.

With --development the seeds are others than those of which results are reported: whatever is tuned
in this project is tuned on these.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import yaml
from scipy.stats import t as student

from benchmarks.command_line import parser
from search_spaces import load_space

# The first seed for results that are reported, and for development. From 300 on, the choice of the
# winner was changed on what had been reported.
REPORTED, DEVELOPMENT = 400, 0
# Fewer votes than a user would cast, and all runs compute alike.
CERTIFY = ["--certify-images=500", "--n=2000", "--n0=100", "--precision=float32"]
# Nothing is chosen in the run of a start point.
UNSEARCHED = ["--trials=1", "--confirm-folds=2", "--confirm-votes=50"]
SEARCHED = ("start", "transferred", "search")
MEASURES = ("mean certified accuracy", "ACR")
AT = [f"certified_accuracy_{radius}" for radius in ("0", "0_25", "0_5", "0_75")]
SIDES = (
    "no denoiser",
    "label consistency",
    "published",
    "published, best sigma",
    "start point alone",
    "random search, twice the epochs",
    "this search",
)
Row = dict[str, Any]


def run(out: Path, name: str, *flags: str) -> Path:
    """The folder of the run `name`, finished now if it is not yet."""
    folder = out / name
    if not (folder / "report.html").exists():
        resume = ["--resume"] if (folder / "config.yaml").exists() else flags
        command = [sys.executable, "-m", "tuning.launch", f"--out={out}", f"--name={name}", *resume]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def table(folder: Path, name: str) -> list[Row]:
    """The rows of a table of the run's only setting."""
    (path,) = folder.glob(f"*/{name}.parquet")
    rows: list[Row] = pq.read_table(path).to_pylist()
    return rows


def random_trials(ours: Path) -> int:
    """Trials of random search for twice the epochs that the run trained on its own proposals."""
    rows = table(ours, "trials")
    epochs = sum(row["epochs"] or 0 for row in rows if row["origin"] in SEARCHED)
    full: int = max(row["epochs"] for row in rows if row["state"] == "complete")
    # The published point is one of --trials.
    return 1 + round(2 * epochs / full)


def measured(folder: Path) -> dict[str, tuple[float, float]]:
    """The measures on the test images, by variant."""
    rows = pq.read_table(folder / "summary.parquet").to_pylist()
    return {row["variant"]: (float(np.mean([row[c] for c in AT])), row["acr"]) for row in rows}


def optimism(folder: Path) -> float:
    """By how much the highest score of the search was above its own confirmed score."""
    rows = table(folder, "confirmation")
    return float(max(rows, key=lambda row: row["search_objective"])["optimism_gap"])


def interval(values: np.ndarray) -> str:
    """Mean and 95 % t interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} [{values.mean() - half:+.4f}, {values.mean() + half:+.4f}]"


def write_start_space(space: str, out: Path) -> Path:
    """A space whose published point is the first start point of `space`."""
    base = load_space(space)
    start = {**base.published, **base.start[0]}
    content = {
        "name": f"{space}-start",
        "extends": space,
        "published": start,
        "start": [],
        "sweep": [start["sigma"]],
    }
    path = out / f"{space}-start.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def compare(options: argparse.Namespace, shots: str, flags: list[str]) -> None:
    """All seeds of one shot count."""
    found, gaps = [], []
    first = DEVELOPMENT if options.development else REPORTED
    start_space = write_start_space(options.space, options.out)
    for seed in range(first, first + options.seeds):
        common = [f"--shots={shots}", f"--seed={seed}", *CERTIFY, *flags]
        searched = [f"--space={options.space}", *common]
        trials = f"--trials={options.trials}"
        ours = run(options.out, f"ours-{shots}-{seed}", *searched, trials)
        start = run(
            options.out, f"start-{shots}-{seed}", f"--space={start_space}", *common, *UNSEARCHED
        )
        random = run(
            options.out, f"random-{shots}-{seed}", *searched, f"--trials={random_trials(ours)}",
            "--sampler=random", "--scheduler=none",
            f"--confirm-top={min(8, max(2, round(options.trials / 8)))}",
        )  # fmt: skip
        mine = measured(ours)
        names = ("none", "label_consistency", "published", "published_best_sigma")
        sides = [mine[name] for name in names]
        sides += [measured(start)["published"], measured(random)["best"], mine["best"]]
        found.append(sides)
        gaps.append(optimism(ours))
        print(f"{shots} shots, seed {seed}: {np.round(sides, 4).tolist()}", flush=True)
    show(shots, np.array(found), np.array(gaps))


def show(shots: str, found: np.ndarray, gaps: np.ndarray) -> None:
    """Means, and paired differences to this search; `found` is [seeds, sides, measures]."""
    print(f"\n{shots} shots a class, {len(found)} seeds, on test images")
    for column, measure in enumerate(MEASURES):
        print(f"\n| {measure} | mean | sd | this search - it |\n|---|---|---|---|")
        for side, values in zip(SIDES, found[..., column].T, strict=True):
            gained = found[:, -1, column] - values
            shown = interval(gained) if side != SIDES[-1] else ""
            print(f"| {side} | {values.mean():.4f} | {values.std(ddof=1):.4f} | {shown} |")
    print(f"\noptimism of the highest search score: {interval(gaps)}\n", flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--shots", default="3,5,10")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--trials", type=int, default=24)
    arguments.add_argument("--space", default="digits")
    arguments.add_argument("--development", action="store_true")
    options, flags = arguments.parse_known_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for shots in options.shots.split(","):
        compare(options, shots, flags)


if __name__ == "__main__":
    main()
