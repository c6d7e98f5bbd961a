"""Whole runs from Python, in a process that goes on after them."""

import subprocess
import sys
from pathlib import Path

from tests.support.runs import REPO, SMALLEST_SPACE, Launcher

SCRIPT = """
import io, sys
from pathlib import Path
from tuning.api import certify, search

# As in a notebook, where what Python writes does not pass through the file descriptors.
sys.stdout = written = io.StringIO()
out = Path(sys.argv[1])
small = dict(trials=1, certify_images=20, n=500, set={"epochs": 4}, confirm_folds=2)
small["space"] = sys.argv[2]
run = search(shots=3, name="first", out=out, **small)
again = certify(run.folder, n=800, procedure="fixed")
sys.stdout = sys.__stdout__
print(run)
print(run.summary.num_rows, again.summary.num_rows, set(again.summary["n"].to_pylist()))
assert run.curves().png.startswith(b"\\x89PNG")
assert "digits-3shot" in written.getvalue(), written.getvalue()
import ray
assert not ray.is_initialized()
"""


def test_a_search_and_a_certification_from_one_process(launcher: Launcher, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(SMALLEST_SPACE)],
        cwd=REPO, env=launcher.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, counts = done.stdout.splitlines()
    assert said[0].startswith("digits-3shot: ")
    assert counts == "5 5 {800}"
