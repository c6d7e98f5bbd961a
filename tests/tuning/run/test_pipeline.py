"""What a run says at its end."""

import shlex
from pathlib import Path

import pytest

from results.run import load_run
from tests.support.invented import write_run
from tuning.run.folder import RunFolder
from tuning.run.pipeline import what_next


@pytest.mark.parametrize("name", ["demo", "with a space"])
def test_a_run_ends_with_the_commands_that_open_use_and_verify_it(
    tmp_path: Path, name: str
) -> None:
    path = write_run(tmp_path / name, ("digits-10shot", "digits-5shot"))
    export = path / "digits-5shot" / "smoothed_classifier"
    export.mkdir(exist_ok=True)
    report, *commands = what_next(RunFolder(path), load_run(path))
    assert report == f"report: {path / 'report.html'}"
    purposes, words = zip(*((line.split()[0], shlex.split(line)) for line in commands), strict=True)
    assert purposes == ("open:", "use:", "verify:")
    assert words[0][2:] == ["-m", "webbrowser", str(path / "report.html")]
    assert words[1][2:] == ["-m", "tuning", "serve", str(export)]
    assert words[2][2:] == ["-m", "tuning.certify", "--verify", str(path)]
