"""What the search is worth: certified test ACR against the published values and random search.

Usage: python -m benchmarks.search.quality --out FOLDER [--shots 3,5,10] [--seeds 5] [--trials 24]
       [--first-seed 100]

For each shot count and seed one run of this project's search, which also certifies the published
values, and then one of random search without pruning, with the same confirmation, for twice as many
training epochs as the first one spent on its own proposals. Both certify the same test images of
digits. Printed are means over the seeds, and paired differences with 95 % t intervals. Runs that
are there already are not repeated, so the benchmark can be interrupted.

The search was developed on seeds below 100.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.stats import t as student

from benchmarks.command_line import parser

# All of digits' test images, with fewer votes each than a user would cast.
CERTIFY = ["--certify-images=500", "--n=2000", "--n0=100"]
SEARCHED = ("start", "transferred", "search")


def run(out: Path, name: str, *flags: str) -> Path:
    """The folder of the run `name`, finished now if it is not yet."""
    folder = out / name
    if not (folder / "report.html").exists():
        resume = ["--resume"] if (folder / "config.yaml").exists() else flags
        command = [sys.executable, "-m", "tuning.launch", f"--out={out}", f"--name={name}", *resume]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def searched_epochs(folder: Path, setting: str) -> int:
    """Epochs that the run trained on its own proposals, baselines not counted."""
    trials = pq.read_table(folder / setting / "trials.parquet").to_pylist()
    return sum(row["epochs"] or 0 for row in trials if row["origin"] in SEARCHED)


def acr(folder: Path) -> dict[str, float]:
    """Certified test ACR of each variant."""
    rows = pq.read_table(folder / "summary.parquet").to_pylist()
    return {row["variant"]: row["acr"] for row in rows}


def gaps(folder: Path, setting: str) -> tuple[float, float]:
    """How optimistic the highest search score is, and how optimistic the confirmed score still is.

    The first is against its own confirmed score, the second against the certified test ACR.
    """
    rows = pq.read_table(folder / setting / "confirmation.parquet").to_pylist()
    highest = max(rows, key=lambda row: row["search_objective"])
    best = next(row for row in rows if "best" in row["variant"])
    return highest["optimism_gap"], best["confirmed_objective"] - acr(folder)["best"]


def interval(values: np.ndarray) -> str:
    """Mean and 95 % t interval."""
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return f"{values.mean():+.4f} [{values.mean() - half:+.4f}, {values.mean() + half:+.4f}]"


def compare(options: argparse.Namespace, shots: str, random_space: Path) -> None:
    """All seeds of one shot count."""
    setting, found, optimism = f"digits-{shots}shot", [], []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        common = [f"--shots={shots}", f"--seed={seed}", *CERTIFY]
        ours = run(options.out, f"ours-{shots}-{seed}", *common, f"--trials={options.trials}")
        epochs = searched_epochs(ours, setting)
        # The published point is one of --trials.
        trials = 1 + round(2 * epochs / options.epochs)
        flags = ["--sampler=random", "--scheduler=none", f"--space={random_space}"]
        random = run(
            options.out, f"random-{shots}-{seed}", *common, *flags, f"--trials={trials}",
            f"--confirm-top={min(8, max(2, round(options.trials / 8)))}",
        )  # fmt: skip
        mine = acr(ours)
        found.append(
            (mine["label_consistency"], mine["published"], mine["best"], acr(random)["best"])
        )
        optimism.append(gaps(ours, setting))
        print(f"{shots} shots, seed {seed}: {epochs} epochs, {np.round(found[-1], 4)}", flush=True)
    values, optimisms = np.array(found), np.array(optimism)
    names = ("label consistency", "published", "this search", "random search, twice the epochs")
    print(f"\n{shots} shots a class, {options.seeds} seeds: test ACR")
    for name, column in zip(names, values.T, strict=True):
        print(f"  {name}: {column.mean():.4f} (sd {column.std(ddof=1):.4f})")
    print(f"  this search - published: {interval(values[:, 2] - values[:, 1])}")
    print(f"  this search - random search: {interval(values[:, 2] - values[:, 3])}")
    print(f"  optimism of the highest search score: {interval(optimisms[:, 0])}")
    print(f"  confirmed score - test ACR: {interval(optimisms[:, 1])}\n", flush=True)


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--shots", default="3,5,10")
    arguments.add_argument("--seeds", type=int, default=5)
    arguments.add_argument("--first-seed", type=int, default=100)
    arguments.add_argument("--trials", type=int, default=24)
    arguments.add_argument("--epochs", type=int, default=200, help="of a full trial")
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    random_space = options.out / "digits-random.yaml"
    random_space.write_text("name: digits-random\nextends: digits\nstart: []\n")
    for shots in options.shots.split(","):
        compare(options, shots, random_space)


if __name__ == "__main__":
    main()
