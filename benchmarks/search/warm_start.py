"""What a search saves by the best points of a different shot count of the same data set.

Usage: python -m benchmarks.search.warm_start --out FOLDER [--shots 10,5] [--seeds 3] [--trials 20]

Each seed runs twice, with --transfer 3 and with --transfer 0; splits, seeds and scores are the same
in both. Only the second setting is compared: the training epochs, in order of the trials, until a
trial scores within TOLERANCE of the best that either run finds. Runs that are there already are not
repeated.
"""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.command_line import parser
from benchmarks.search.quality import SEARCHED, run

FIRST_SEED = 200
TOLERANCE = 0.005
# Confirmed and certified as little as possible: only the search is compared.
REST = ["--confirm-top=1", "--confirm-folds=2", "--confirm-votes=50"]
REST += ["--certify-images=5", "--n=200", "--procedure=fixed", "--precision=float32"]


def curve(folder: Path, setting: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs spent after each trial of the search, and the best complete score so far."""
    trials = pq.read_table(folder / setting / "trials.parquet").to_pylist()
    rows = sorted((r for r in trials if r["origin"] in SEARCHED), key=lambda r: r["root"])
    scores = [r["objective"] if r["state"] == "complete" else -np.inf for r in rows]
    return np.cumsum([r["epochs"] or 0 for r in rows]), np.maximum.accumulate(scores)


def epochs_to(curve: tuple[np.ndarray, np.ndarray], target: float) -> float:
    """Epochs until the score `target`; all of them if it is not reached."""
    epochs, best = curve
    reached = np.flatnonzero(best >= target)
    return float(epochs[reached[0]] if len(reached) else epochs[-1])


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--out", type=Path, required=True)
    arguments.add_argument("--shots", default="10,5")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--trials", type=int, default=20)
    options = arguments.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    space = options.out / "digits-few-baselines.yaml"
    space.write_text("name: digits-few-baselines\nextends: digits\nsweep: [0.25]\n")
    setting = f"digits-{options.shots.split(',')[-1]}shot"
    saved = []
    for seed in range(FIRST_SEED, FIRST_SEED + options.seeds):
        curves = {}
        for transfer in (3, 0):
            folder = run(
                options.out, f"transfer{transfer}-{seed}", f"--shots={options.shots}",
                f"--seed={seed}", f"--trials={options.trials}", f"--transfer={transfer}",
                f"--space={space}", *REST,
            )  # fmt: skip
            curves[transfer] = curve(folder, setting)
        target = max(best[-1] for _, best in curves.values()) - TOLERANCE
        warm, cold = (epochs_to(curves[transfer], target) for transfer in (3, 0))
        reached = [bool(best[-1] >= target) for _, best in curves.values()]
        saved.append(1 - warm / cold)
        print(
            f"seed {seed}: {warm:.0f} epochs to {target:.3f} with transfer, {cold:.0f} without "
            f"(reached: {reached[0]}, {reached[1]}); best {curves[3][1][-1]:.4f} and "
            f"{curves[0][1][-1]:.4f}",
            flush=True,
        )
    print(
        f"saved in {setting}: {np.mean(saved):.0%} of the epochs on average of {len(saved)} seeds"
    )


if __name__ == "__main__":
    main()
