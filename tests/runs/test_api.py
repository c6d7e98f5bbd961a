"""What README.md does in Python: whole runs, in a process that goes on after them."""

import subprocess
import sys
from pathlib import Path

from tests.support.documented import blocks
from tests.support.runs import REPO, SMALLEST_SPACE, Launcher

SCRIPT = """
import io, sys
from pathlib import Path

# As in a notebook, where what Python writes does not pass through the file descriptors.
sys.stdout = written = io.StringIO()
out = Path(sys.argv[1])
small = dict(trials=1, certify_images=20, n=500, set={"epochs": 4}, confirm_folds=2)
small["space"] = sys.argv[2]
exec(sys.argv[3])
sys.stdout = sys.__stdout__
print(run)
print(run.summary.num_rows, again.summary.num_rows, set(again.summary["n"].to_pylist()))
assert run.curves().png.startswith(b"\\x89PNG")
assert "digits-3shot" in written.getvalue(), written.getvalue()
import ray
assert not ray.is_initialized()
"""

# What keeps it short, and a name for what is returned.
CHANGES = {
    'shots=10, name="digits")': 'shots=3, name="digits", out=out, **small)',
    "certify(run.folder, n=100_000)": 'again = certify(run.folder, n=800, procedure="fixed")',
}


def test_a_search_and_a_certification_from_one_process(launcher: Launcher, tmp_path: Path) -> None:
    shown = next(b.text for b in blocks() if b.page == "README.md" and "tuning.api" in b.text)
    for before, after in CHANGES.items():
        assert before in shown
        shown = shown.replace(before, after)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(SMALLEST_SPACE), shown],
        cwd=REPO, env=launcher.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *said, counts = done.stdout.splitlines()
    assert said[0].startswith("digits-3shot: ")
    assert counts == "5 5 {800}"
