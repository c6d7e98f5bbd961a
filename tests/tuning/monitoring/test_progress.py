import io
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from tuning.monitoring import progress
from tuning.monitoring.progress import Reporter

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
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_progress_without_a_terminal_is_plain_lines(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with Reporter().track("votes", 100) as advance:
        for _ in range(100):
            advance(1)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["votes: 0/100", "votes: 100/100 (0 s)"]


@pytest.mark.parametrize(
    ("total", "steps", "lines"),
    [
        # The second one is too soon for another line.
        (
            100,
            [(10, 20, None), (12, 1, None), (15, 1, 600)],
            ["20/100 (10 s, about 40 s left)", "22/100 (15 s, about 10 min left)"],
        ),
        # The time before a step begins does not count: 60 a second.
        (
            1000,
            [(100, 5, None), (106, 360, None)],
            ["5/1000 (2 min)", "365/1000 (2 min, about 11 s left)"],
        ),
    ],
)
def test_progress_says_how_long_it_is_going_to_take(
    total: int,
    steps: list[tuple[float, int, float | None]],
    lines: list[str],
    clock: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Reporter().track("votes", total) as advance:
        for clock[0], units, left in steps:
            advance(units, left)
    assert capsys.readouterr().err.splitlines()[1:] == [f"votes: {line}" for line in lines]


def test_on_a_terminal_bars_of_several_steps_are_shown_together() -> None:
    reporter, written = Reporter(), io.StringIO()
    reporter.err = Console(file=written, force_terminal=True, width=100)
    with reporter.track("trainings", 10) as train:
        with reporter.track("votes", 30) as count:
            train(4)
            count(7)
        train(1)
    with reporter.track("report", 1) as write:
        write(1)
    text = written.getvalue()
    for shown in ("trainings", "votes", "7/30", "5/10", "report", "1/1"):
        assert shown in text


def test_on_a_terminal_a_bar_shows_how_much_is_done_and_left() -> None:
    reporter, written = Reporter(), io.StringIO()
    reporter.err = Console(file=written, force_terminal=True, width=100)
    with reporter.track("votes", 10) as advance:
        advance(4, 600)
    text = written.getvalue()
    assert "votes" in text
    assert "4/10" in text
    assert "about 10 min left" in text
