import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from results.recorded import FORMAT_WITHOUT_CHECKSUMS, VOTES_FORMAT, checksum
from tests.support.counts import recorded
from trainables.errors import InputError
from tuning.errors import ConfigError
from tuning.votes.store import Counts, VoteKey, VoteStore

KEY = VoteKey("m", "estimate", 3, 0.5, 0, 1, 0, 1000)


@pytest.mark.parametrize("version", [0, VOTES_FORMAT + 1])
def test_a_store_of_another_version_is_refused_and_left_alone(tmp_path: Path, version: int) -> None:
    path = tmp_path / "votes.db"
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE counts (model TEXT, phase TEXT)")
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    message = rf"^--out: .*votes\.db holds votes in format {version}, .* delete that file"
    with pytest.raises(ConfigError, match=message) as caught:
        VoteStore(path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_repeated_key_replaces_its_counts(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    store.put({KEY: Counts([1, 0, 0], 1.0, "host")})
    store.put({KEY: Counts([0, 1, 0], 2.0, "other")})
    assert recorded(tmp_path / "votes.db") == {KEY: Counts([0, 1, 0], 2.0, "other")}


@pytest.mark.parametrize(
    "assignment",
    [
        "votes = '[999, 1]'",
        "votes = '[1, 999, 0]'",
        "votes = 'none'",
        "votes = NULL",
        "checksum = NULL",
        "checksum = upper(checksum)",
        # The row of different draws, under this key.
        "start = 0, stop = 1000 WHERE start = 1000",
    ],
)
def test_counts_that_have_changed_are_named_instead_of_used(
    tmp_path: Path, assignment: str
) -> None:
    path = tmp_path / "votes.db"
    store = VoteStore(path)
    store.put({KEY._replace(start=1000, stop=2000): Counts([1, 999], 0.5, "host")})
    if "WHERE" not in assignment:
        store.put({KEY: Counts([1, 999], 0.5, "host")})
        assert store.find([KEY])
    with closing(sqlite3.connect(path)) as db, db:
        assert db.execute(f"UPDATE counts SET {assignment}").rowcount
    message = rf"^{path}: the votes of image 3 from draw 0 to 1000 have changed .* delete that file"
    with pytest.raises(InputError, match=message):
        store.find([KEY])


@pytest.mark.parametrize(
    "votes",
    [
        *("[1000, 1]", "[-1, 5]", "[0.5]", "{}", "none"),
        pytest.param("[" * 10_000, id="deeply nested"),
    ],
)
def test_impossible_counts_are_named_although_their_checksum_is_right(
    tmp_path: Path, votes: str
) -> None:
    store = VoteStore(tmp_path / "votes.db")
    store.put({KEY: Counts([1, 999], 0.5, "host")})
    with closing(sqlite3.connect(store.path)) as db, db:
        db.execute("UPDATE counts SET votes = ?, checksum = ?", (votes, checksum(KEY, votes)))
    with pytest.raises(InputError, match="the votes of image 3 from draw 0 to 1000 have changed"):
        store.find([KEY])


@pytest.mark.parametrize("votes", [[999, 2], [-1, 5], [], [0.5, 1], [True, 1]])
def test_counts_that_cannot_be_are_not_recorded(tmp_path: Path, votes: list[int]) -> None:
    store = VoteStore(tmp_path / "votes.db")
    right = {KEY._replace(image=4): Counts([1000], 0.5, "host")}
    with pytest.raises(InputError, match=r"a worker on host counted .* votes in 1000 draws"):
        store.put(right | {KEY: Counts(votes, 0.5, "host")})
    assert recorded(tmp_path / "votes.db") == {}


def test_the_format_before_is_read_and_gets_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "votes.db"
    store = VoteStore(path)
    # As SQLite keeps it, which is not how it was given.
    keys = [KEY._replace(sigma=sigma, image=image) for sigma in (1, 0.25) for image in (3, 4)]
    counts = {key: Counts([key.image, 1], 0.5, "host") for key in keys}
    store.put(counts)
    with closing(sqlite3.connect(path)) as db:
        rows = db.execute("SELECT * FROM counts").fetchall()
        db.execute("ALTER TABLE counts DROP COLUMN checksum")
        db.execute(f"PRAGMA user_version = {FORMAT_WITHOUT_CHECKSUMS}")
        db.commit()
    before = path.read_bytes()
    with monkeypatch.context() as patched:
        # As if it were killed within.
        patched.delattr("tuning.votes.store.checksum")
        with pytest.raises(sqlite3.OperationalError):
            VoteStore(path)
    assert path.read_bytes() == before
    again = VoteStore(path)
    assert all(again.find([key]) == {key: counts[key]} for key in keys)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT * FROM counts").fetchall() == rows
        assert db.execute("PRAGMA user_version").fetchone() == (VOTES_FORMAT,)


def test_of_what_was_asked_only_what_is_there_is_found(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    keys = [VoteKey("m", "estimate", 3, 0.5, 0, 1, i, i + 1000) for i in range(0, 5000, 1000)]
    counts = {key: Counts([key.start // 10, 1], 0.5, "host") for key in keys}
    there = {key: counts[key] for key in (keys[0], keys[3])}
    others = {
        key._replace(**changes): Counts([7, 7], 0.5, "host")
        for key in keys
        for changes in ({"image": 4}, {"phase": "select"}, {"sigma": 0.25}, {"seed": 2})
    }
    # Draws of another piece, that begin where one of these does.
    others[keys[1]._replace(stop=1500)] = Counts([7, 7], 0.5, "host")
    store.put(there | others)
    assert store.find(keys) == there


def test_store_survives_a_kill_in_the_middle(tmp_path: Path) -> None:
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from tuning.votes.store import Counts, VoteKey, VoteStore\n"
        "store = VoteStore(Path(sys.argv[1]))\n"
        "for image in range(10_000):\n"
        "    key = VoteKey('m', 'estimate', image, 0.5, 0, 1, 0, 10)\n"
        "    store.put({key: Counts([image % 10], 0.0, 'host')})\n"
        "    if image == 40:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "votes.db"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    assert {k.image: c.votes for k, c in recorded(path).items()} == {
        image: [image % 10] for image in range(41)
    }
