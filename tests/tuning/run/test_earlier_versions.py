"""Runs that earlier versions wrote, as they wrote them: stored, and never made again."""

import sqlite3
import tarfile
from contextlib import closing
from pathlib import Path

import pytest

from results import files
from results.recorded import VOTES_FORMAT
from results.report.command import main as report
from results.verification import verify
from tuning.certification.replay import replay
from tuning.certify import main as certify
from tuning.launch import main as launch
from tuning.votes.store import VoteStore

STORED = sorted((Path(__file__).parents[2] / "fixtures").glob("run_of_*.tar.gz"))
SETTING = "digits-3shot"


@pytest.fixture(params=STORED, ids=lambda path: path.name.partition(".")[0])
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The folder of a finished run of three trials."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "runs" / "finished"


def test_it_is_verified_and_reported(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(earlier, replay) == (40, [])
    assert report([str(earlier)]) == 0
    assert certify(["--verify", str(earlier)]) == 0
    assert capsys.readouterr().out.endswith("follow from their counts\n")
    assert SETTING in (earlier / files.REPORT).read_text()


def test_it_can_be_resumed(earlier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = f"--out={earlier.parent}"
    assert launch([out, "--name=finished", "--resume", "--trials=4", "--dry-run"]) == 0
    assert SETTING in capsys.readouterr().out


def test_its_votes_are_used(earlier: Path) -> None:
    path = earlier / SETTING / files.VOTES
    with closing(sqlite3.connect(path)) as db:
        (before,) = db.execute("SELECT SUM(stop - start) FROM counts").fetchone()
    assert sum(VoteStore(path).votes_by_phase().values()) == before > 0
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (VOTES_FORMAT,)
    # What a run that goes on writes is as good as what it found, but for the digest of the file.
    assert [line for line in verify(earlier, replay)[1] if "has changed" not in line] == []
