"""What bounds on the picked class and on all others prove, beside one bound from the same votes.

Usage: python -m benchmarks.certification.two_classes RUN

From the counts in the certificates.parquet of each setting of a run, which was made with the
procedure fixed or tolerance, the radius of Cohen et al.'s usual form is computed as well: one
Clopper-Pearson bound at all of alpha. Printed are, for each variant, the ACR and the certified
accuracy at the run's radii in both forms, and the paired difference with its 95 % interval.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.command_line import parser
from results.curves import paired_difference
from results.run import load_run
from results.schema import Row
from results.score import Answers
from trainables.smoothing.bounds import certified_radius


def alone(row: Row) -> Row:
    """The certificate that a bound on the picked class alone gives."""
    radius = certified_radius(row["votes_top"], row["n"], row["sigma"], row["alpha"])
    # An abstention does not say which class was picked; the usual form is given the right one.
    picked = row["label"] if row["predicted"] == -1 else row["predicted"]
    return {**row, "radius": radius, "predicted": picked if radius else -1}


def show(name: str, rows: Sequence[Row], radii: list[float]) -> None:
    """One line for each measure."""
    both, one = Answers.of(rows), Answers.of([alone(row) for row in rows])
    values = {"ACR": [side.right(0) * side.radius for side in (both, one)]}
    values |= {f"at {r:g}": [side.right(r).astype(float) for side in (both, one)] for r in radii}
    for measure, (more, less) in values.items():
        gain = paired_difference(more, less)
        print(
            f"| {name} | {measure} | {less.mean():.4f} | {more.mean():.4f} "
            f"| {gain.value:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}] |"
        )


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("run", type=Path)
    run = load_run(arguments.parse_args().run)
    for setting in run.settings:
        print(f"\n{setting.name}\n\n| variant | | one class | all | gain |\n|---|---|---|---|---|")
        radii = next(row["radii"] for row in setting.summary)
        for name, rows in setting.certificates.items():
            agreed = np.mean([row["votes_selected"] == row["n0"] for row in rows])
            show(f"{name} ({100 * agreed:.0f} % bounded alone)", rows, radii)


if __name__ == "__main__":
    main()
