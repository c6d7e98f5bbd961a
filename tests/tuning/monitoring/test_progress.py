import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tuning.monitoring import progress, steps
from tuning.monitoring.panel import panel
from tuning.monitoring.progress import Reporter
from tuning.monitoring.steps import Activity, Step

REPO = Path(__file__).parents[3]


def run(script: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=True
    )
    return done.stdout, done.stderr


def test_chatter_of_libraries_and_children_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    out, err = run(
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tuning.monitoring.progress import redirect_output\n"
        f"with redirect_output(Path({str(log)!r})) as reporter:\n"
        "    os.system('echo child; echo child error >&2')\n"
        "    print('library')\n"
        "    reporter.say('progress')\n"
        "    reporter.out.print('result')\n"
        "print('afterwards')\n"
    )
    assert out == "result\nafterwards\n"
    assert err == "progress\n"
    assert set(log.read_text().split("\n")) >= {"child", "child error", "library"}


def test_in_a_notebook_progress_is_seen_and_chatter_goes_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = (
        "import io, logging, os, sys\n"
        "from pathlib import Path\n"
        "from tuning.monitoring.progress import redirect_output\n"
        "real = sys.stdout\n"
        "sys.stdout, sys.stderr = out, err = io.StringIO(), io.StringIO()\n"
        "logging.basicConfig(stream=sys.stderr)\n"
        f"with redirect_output(Path({str(log)!r})) as reporter:\n"
        "    os.system('echo child')\n"
        "    print('library')\n"
        "    logging.warning('logged')\n"
        "    reporter.say('progress')\n"
        "    reporter.out.print('result')\n"
        "logging.warning('afterwards')\n"
        "print('the end')\n"
        "print(repr(out.getvalue()), repr(err.getvalue()), file=real)\n"
    )
    shown, _ = run(script)
    assert (
        shown
        == repr("result\nthe end\n") + " " + repr("progress\nWARNING:root:afterwards\n") + "\n"
    )
    assert set(log.read_text().split("\n")) >= {"child", "library", "WARNING:root:logged"}


def test_traceback_is_shown_and_not_hidden_in_the_log(tmp_path: Path) -> None:
    script = (
        "from pathlib import Path\n"
        "from tuning.monitoring.progress import redirect_output\n"
        f"with redirect_output(Path({str(tmp_path / 'log')!r})):\n"
        "    raise RuntimeError('a bug')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert "RuntimeError: a bug" in done.stderr


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in seconds, as progress sees it."""
    now = [0.0]
    monkeypatch.setattr(steps, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def on_terminal(reporter: Reporter, width: int = 80) -> io.StringIO:
    """What the reporter writes to a terminal of so many columns."""
    written = io.StringIO()
    reporter.err = Console(
        file=written, force_terminal=True, width=width, height=24, highlight=False
    )
    return written


def test_progress_without_a_terminal_is_plain_lines(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter().track("votes", 100) as advance:
        for _ in range(100):
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["votes: 0/100", "votes: 100/100 (0 s)"]


def test_a_line_every_now_and_then_says_what_is_going_on_even_if_nothing_advances(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "HEARTBEAT", 0.01)
    reporter = Reporter()
    reporter.tell("workers", "2 of 2 workers busy")
    with reporter.track("votes", 8_100_000, fast=True) as advance:
        advance(4_000_000)
        found = ""
        while found.count("so far") < 2:
            found += capsys.readouterr().err
    lines = found.splitlines()
    assert lines[0] == "votes: 0/8.1M"
    assert lines[1].startswith("votes 4.0M/8.1M")
    assert "; 2 of 2 workers busy; " in lines[1]
    # It stops with the step.
    ended = capsys.readouterr().err
    time.sleep(0.05)
    assert ended.endswith("votes: 4.0M/8.1M (0 s)\n")
    assert capsys.readouterr().err == ""


def test_a_quiet_run_writes_warnings_and_results_only(capsys: pytest.CaptureFixture[str]) -> None:
    reporter = Reporter(quiet=True)
    written = on_terminal(reporter)
    reporter.say("starting ...")
    reporter.warn("mind this")
    with reporter.track("votes", 10) as advance:
        advance(10)
    reporter.out.print("result")
    assert written.getvalue() == "warning: mind this\n"
    assert capsys.readouterr().out == "result\n"


def test_on_a_terminal_the_steps_that_go_on_are_shown_together() -> None:
    reporter = Reporter()
    written = on_terminal(reporter)
    with reporter.track("trainings", 10) as train:
        with reporter.track("votes", 30) as count:
            train(4)
            count(7)
        train(1)
    with reporter.track("report", 1) as write:
        write(1)
    text = written.getvalue()
    for shown in ("votes: 7/30 (0 s)", "trainings: 5/10 (0 s)", "report: 1/1 (0 s)"):
        assert shown in text


def test_the_panel_shows_what_is_done_and_left_in_80_columns(clock: list[float]) -> None:
    activity = Activity()
    long = Step("tiny_imagenet-50shot: confirmation votes of a long name", 8_100_000, fast=True)
    for step in (long, Step("search", 38)):
        activity.begin(step)
    activity.facts["trials"] = "trials: 12 complete, 3 pruned; best score 0.412" + 80 * "!"
    clock[0] = 10.0
    long.advance(100_000)
    clock[0] = 110.0
    long.advance(3_900_000)
    console = Console(file=io.StringIO(), width=80, record=True)
    console.print(panel(activity))
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("2 min so far")
    assert lines[1].startswith("trials: 12 complete, 3 pruned; best score 0.412")
    assert "tiny_imagenet-50shot: con" in lines[2]
    assert lines[2].split()[-5:] == ["4.0M/8.1M", "39.0k/s", "2", "min", "left"]
    assert lines[3].split()[-1] == "0/38"


IN_A_TERMINAL = """
from tuning.monitoring.progress import Reporter
reporter = Reporter()
reporter.tell("workers", "2 of 2 workers busy")
with reporter.track("digits-10shot: certification votes", 8_100_000, fast=True) as advance:
    advance(4_000_000)
    __import__("time").sleep(0.5)
reporter.say("done")
"""


def test_a_real_terminal_of_80_columns_shows_the_panel_and_then_removes_it() -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    command = [sys.executable, "-c", IN_A_TERMINAL]
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    with subprocess.Popen(command, cwd=REPO, stderr=slave, env=environment) as process:
        os.close(slave)
        text = b""
        # Reading fails once nobody has the other end.
        with suppress(OSError):
            while chunk := os.read(master, 4096):
                text += chunk
    os.close(master)
    assert process.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode()).replace("\r", "\n")
    lines = [line for line in plain.split("\n") if line]
    assert max(map(len, lines)) <= 80
    assert any("4.0M/8.1M" in line for line in lines)
    assert "2 of 2 workers busy" in lines
    assert lines[-1] == "done"
    # The panel is erased: cursor up, line erased.
    assert "\x1b[1A\x1b[2K" in text.decode()
