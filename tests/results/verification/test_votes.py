"""Certificates against the counts of their votes."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from results.digests import file_digests
from results.recorded import FORMAT_WITHOUT_CHECKSUMS, VOTES_FORMAT
from results.verification import verify
from results.verification.counts import Counts, Stream
from tests.support.finished import write_finished
from tests.support.sealing import sealed
from trainables.smoothing.procedures import Tolerance
from tuning.certification.replay import replay
from tuning.votes import store

STREAM = Stream("m", "estimate", 3, 0.25, 0, 7)
Key = store.VoteKey


def update(run: Path, assignment: str, where: str) -> None:
    """Change counts in the store of a run's only setting."""
    (path,) = run.glob("*/votes.db")
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(f"UPDATE counts SET {assignment} WHERE {where}").rowcount


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("stop = stop - 1", "votes of the draws"),
        ("votes = '[1, 2]'", "are not the votes of 10 classes"),
        ("votes = replace(votes, '[0', '[-1')", "are not the votes of 10 classes"),
        ("votes = 'none'", "are not the votes of 10 classes"),
        pytest.param(
            f"votes = '{'[' * 10_000}'", "are not the votes of 10 classes", id="deeply nested"
        ),
        ("image = 999", "votes that pick a class were counted"),
        ("model = model || '0'", "votes that pick a class were counted"),
        ("seed = seed + 1", "votes that pick a class were counted"),
        ("seconds = -1.0", "-1.0 s on"),
        ("checksum = '0'", "the checksum is of a different row"),
    ],
)
def test_a_count_that_does_not_fit_is_named(run: Path, assignment: str, expected: str) -> None:
    update(run, assignment, "image = 0 AND phase = 'select'")
    assert any(expected in line for line in verify(sealed(run))[1])


def test_votes_that_were_counted_but_not_used_and_the_reverse_are_named(run: Path) -> None:
    update(run, "start = start + 7, stop = stop + 7", "image = 0 AND phase = 'estimate'")
    lines = [line for line in verify(sealed(run))[1] if "image 0" in line]
    assert len([line for line in lines if ": votes is " in line]) == 5
    assert all(line.endswith("but 0 votes were counted") for line in lines if ": n is " in line)


def test_a_run_of_the_format_without_checksums_is_verified(run: Path) -> None:
    (path,) = run.glob("*/votes.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("ALTER TABLE counts DROP COLUMN checksum")
        db.execute(f"PRAGMA user_version = {FORMAT_WITHOUT_CHECKSUMS}")
        db.commit()
    assert verify(sealed(run)) == (40, [])
    update(run, "votes = replace(votes, '[0', '[-1')", "image = 0 AND phase = 'select'")
    assert verify(sealed(run))[1]


def test_another_format_is_named(run: Path) -> None:
    (path,) = run.glob("*/votes.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    assert verify(run)[1] == [f"digits-3shot/votes.db, format 1: expected {VOTES_FORMAT}"]


def test_a_damaged_store_is_named(run: Path) -> None:
    (path,) = run.glob("*/votes.db")
    path.write_bytes(b"no database" * 1000)
    assert any("votes.db: cannot be read: file is not a database" in w for w in verify(run)[1])


def test_a_number_of_votes_that_its_procedure_would_not_have_chosen_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        # As somebody would who stops when the votes look good.
        patched.setattr(Tolerance, "next_stop", lambda self, pilot, seen, _: None if seen else 100)
        run = write_finished(tmp_path, procedure="tolerance")
    # Counts, bounds and tables agree with each other.
    assert verify(run) == (40, [])
    lines = verify(run, replay)[1]
    assert len(lines) == 40
    assert all(": n is 100, but its procedure asks for more" in line for line in lines)


def test_the_format_is_the_one_that_is_written(tmp_path: Path) -> None:
    written = store.VoteStore(tmp_path / "votes.db")
    pieces = {(0, 100): [90, 10], (100, 250): [140, 9]}
    written.put({Key(*STREAM, *d): store.Counts(v, 0.1, "x") for d, v in pieces.items()})
    counts = Counts(written.path, 2)
    assert counts.problems == []
    found = counts.of(STREAM, longest=False)
    assert found.totals == {0: [0, 0], 100: [90, 10], 250: [230, 19]}
    assert found.draws == 250
    assert found.between(100, 250) == [140, 9]
    with pytest.raises(LookupError):
        found.between(100, 200)
    assert counts.of(STREAM._replace(seed=8), longest=False).draws == 0


@pytest.mark.parametrize(("longest", "expected"), [(False, [70, 0]), (True, [0, 50])])
def test_of_pieces_of_two_devices_those_of_one_count(
    tmp_path: Path, longest: bool, expected: list[int]
) -> None:
    written = store.VoteStore(tmp_path / "votes.db")
    of_cpu: dict[Any, list[int]] = {(0, 10): [10, 0], (10, 20): [10, 0], (20, 70): [50, 0]}
    of_gpu: dict[Any, list[int]] = {(0, 20): [0, 20], (20, 50): [0, 30]}
    if longest:
        # The GPU finished, and the CPU did not.
        of_gpu[(20, 70)] = of_gpu.pop((20, 50))
        expected = [0, 50]
        del of_cpu[(20, 70)]
    else:
        del of_gpu[(20, 50)]
    rows = of_cpu | of_gpu
    written.put({Key(*STREAM, *draws): store.Counts(v, 0.1, "x") for draws, v in rows.items()})
    found = Counts(written.path, 2).of(STREAM, longest=longest)
    assert found.totals[found.draws] == expected
    assert found.draws == 70


def test_a_copy_of_a_store_has_the_same_digest(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    before = file_digests(run, manifest)
    (path,) = run.glob("*/votes.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("VACUUM")
    assert file_digests(run, manifest) == before
