import subprocess
import sys
from pathlib import Path

import pytest

from tuning.cluster.mirror import LOCK
from tuning.launch import main

# Holds a lock until its standard input ends.
HOLDER = """
import filelock, sys
with filelock.FileLock(sys.argv[1]):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_second_launcher_of_a_run_is_refused_while_the_first_goes_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lock = tmp_path / "first" / LOCK
    lock.parent.mkdir()
    command = [sys.executable, "-c", HOLDER, str(lock)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        # The first has the lock until it is told to end, so that to wait would be to wait for ever.
        assert main([f"--out={tmp_path}", "--name=first"]) == 2
        assert first.poll() is None
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == f"error: --name: another launcher is working on {lock.parent}\n"
    assert list(lock.parent.iterdir()) == [lock]
