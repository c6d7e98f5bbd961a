"""Runs and exports of which a file is damaged: commands refuse them, or say what they leave out.

`DECROP_FUZZ=20000` tries so many of each kind.
"""

import shutil
import socket
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from results import files
from results.report.command import main as report
from results.tracking.command import main as track
from tests.support.exports import write_export
from tests.support.finished import write_finished
from tests.support.fuzzing import (
    DAMAGE,
    UNHURRIED,
    check,
    check_refusal,
    contents,
    damaged,
    examples,
    run,
)
from trainables.black_box.serve import main as serve
from trainables.errors import printable
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing.portable import main as export
from tuning.certify import main as certify
from tuning.launch import main as launch

pytestmark = UNHURRIED
FIXTURES = Path(__file__).parents[1] / "fixtures"
# What a dry run reads of a run, and what report and trackers do.
RESUMED_FROM = ("config.yaml", "manifest.json")
SHOWN = {*files.TABLES, files.CONFIG, files.MANIFEST, files.SUMMARY}
Damage = tuple[int, str, int]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished run in it, of the version before."""
    folder = tmp_path_factory.mktemp("finished")
    with tarfile.open(FIXTURES / "run_of_votes_format_3.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "runs"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another such run."""
    folder = tmp_path_factory.mktemp("other")
    write_finished(folder, seed=1)
    return folder


@pytest.fixture(scope="module")
def page(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of the undamaged run."""
    out = tmp_path_factory.mktemp("page") / "page.html"
    assert run(report, str(finished / "finished"), f"--out={out}").code == 0
    return out.read_text()


def copy(folder: Path, factory: pytest.TempPathFactory) -> Path:
    out = factory.mktemp("damaged")
    shutil.copytree(folder, out, dirs_exist_ok=True)
    return out


@given(DAMAGE)
@examples(30)
def test_verified_and_resumed(
    finished: Path, other: Path, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    out = copy(finished, tmp_path_factory)
    path = damaged(out, *damage, other)
    if path is None:
        return
    before = contents(out)
    check_refusal(run(certify, "--verify", str(out / "finished")))
    if path.name in RESUMED_FROM:
        resumed = run(launch, "--resume", "--dry-run", f"--out={out}", "--name=finished")
        if resumed.code:
            check_refusal(resumed)
    assert contents(out) == before


@given(DAMAGE, st.booleans())
@examples(4)
def test_reported(
    finished: Path,
    other: Path,
    page: str,
    tmp_path_factory: pytest.TempPathFactory,
    damage: Damage,
    compared: bool,
) -> None:
    """The page is as it was, or what is left out is said, in a line for each file."""
    out, written = copy(finished, tmp_path_factory), tmp_path_factory.mktemp("page") / "page.html"
    path = damaged(out, *damage, other)
    before = contents(out)
    runs = [str(out / "finished")] + ([str(finished / "finished")] if compared else [])
    said = run(report, *runs, f"--out={written}")
    assert contents(out) == before
    if said.code:
        check_refusal(said)
        assert said.err.count("\n") == 1
        assert not written.exists()
        return
    for line in said.err.splitlines():
        assert line.startswith("warning: left out of the report: "), said
        assert printable(line) == line
    # Without its manifest, it is a run that has not ended.
    unfinished = path is not None and path.name == files.MANIFEST and not path.exists()
    # A bit of a table can be one that is not read, such as a statistic.
    if not (compared or unfinished or (path is not None and str(path) in said.err)):
        assert written.read_text() == page


@given(DAMAGE)
@examples(6)
def test_tracked(
    finished: Path, other: Path, tmp_path_factory: pytest.TempPathFactory, damage: Damage
) -> None:
    """Only what does not concern a tracker may be damaged."""
    mlflow = pytest.importorskip("mlflow")
    out, store = copy(finished, tmp_path_factory), tmp_path_factory.mktemp("store")
    path = damaged(out, *damage, other)
    if path is None or path.name not in SHOWN:
        return
    before, uri = contents(out), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{store}/mlflow.db")
    try:
        said = run(track, str(out / "finished"), "--to=mlflow")
    finally:
        mlflow.set_tracking_uri(uri)
    if path.exists() or path.name in (files.CONFIG, files.MANIFEST, files.SUMMARY):
        check(said, store)
    assert contents(out) == before


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Sequence[Path]:
    """Two exports with their classifiers."""
    folders = []
    for seed in range(2):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            digits = BaseClassifier(DigitsCNN(), blueprint=Blueprint("architecture", "digits_cnn"))
        folder = tmp_path_factory.mktemp("export") / "export"
        folders.append(write_export(folder, digits.eval(), seed=seed))
    return folders


@pytest.fixture(scope="module")
def taken() -> Iterator[str]:
    """A port that cannot be listened on: a server that loads its export ends there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield str(listener.getsockname()[1])


def test_the_undamaged_export_is_loaded(exports: Sequence[Path], taken: str) -> None:
    assert "cannot listen" in run(serve, str(exports[0]), f"--port={taken}").err


@given(DAMAGE, st.sampled_from(["serve", "pt2", "onnx", "certify"]))
@examples(100)
def test_exports(
    exports: Sequence[Path],
    taken: str,
    tmp_path_factory: pytest.TempPathFactory,
    damage: Damage,
    command: str,
) -> None:
    """No file of an export may be anything but what was written."""
    folder, other = exports
    out, written = copy(folder, tmp_path_factory), tmp_path_factory.mktemp("written")
    if damaged(out, *damage, other) is None:
        return
    before = contents(out)
    if command == "serve":
        said = run(serve, str(out), f"--port={taken}")
        assert "cannot listen" not in said.err
    elif command == "certify":
        said = run(certify, str(out), f"--out={written}")
    else:
        said = run(export, str(out), f"--to={command}", f"--out={written / 'network'}")
    assert said.code
    check(said, written)
    assert contents(out) == before
