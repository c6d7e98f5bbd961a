import json
import subprocess
import sys

import pytest

from tests.support.kinds import KINDS


@pytest.mark.timeout(600)
def test_tasks_and_trials_run_on_the_kind_of_gpu_that_was_named() -> None:
    command = [sys.executable, "-m", "tests.support.kinds"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads(ended.stdout.splitlines()[-1])
    assert found["hosts"] == [[2, 0, kind] for kind in KINDS]
    assert found["tasks"] == found["trials"] == {kind: kind for kind in KINDS}
    assert found["any"] in KINDS
