"""How long `decrop certify --verify` takes.

Usage: python -m benchmarks.certification.verification [--images 500] [--procedure tolerance]

A run of four settings is written as by any run, except that its votes are invented: five variants
on as many images each, up to 10 000 votes an image. Printed are the seconds that it takes one core
to verify it, and those without following the procedure on the votes.
"""

import tempfile
import time
from pathlib import Path

from benchmarks.command_line import parser
from results.verification import verify
from tests.support.finished import write_finished
from tuning.certification.replay import replay

SETTINGS, N, N0 = "3,4,5,6", 10_000, 100


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--images", type=int, default=500)
    options.add_argument("--procedure", default="tolerance")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = write_finished(
            Path(folder),
            shots=SETTINGS,
            certify_images=arguments.images,
            n=N,
            n0=N0,
            procedure=arguments.procedure,
        )
        for name, followed in (("all", replay), ("without the procedure", None)):
            started = time.process_time()
            count, wrong = verify(run, followed)
            seconds = time.process_time() - started
            assert not wrong, wrong[0]
            print(f"{arguments.procedure}, {name}: {count} certificates in {seconds:.1f} s")


if __name__ == "__main__":
    main()
