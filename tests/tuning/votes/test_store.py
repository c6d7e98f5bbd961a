import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from results.schema import VOTES_FORMAT
from tests.support.counts import recorded
from tuning.errors import ConfigError
from tuning.votes.store import Counts, VoteKey, VoteStore


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
    key = VoteKey("m", "estimate", 3, 0.5, 0, 1, 0, 1000)
    store.put({key: Counts([1, 0, 0], 1.0, "host")})
    store.put({key: Counts([0, 1, 0], 2.0, "other")})
    assert recorded(tmp_path / "votes.db") == {key: Counts([0, 1, 0], 2.0, "other")}


def test_of_what_was_asked_only_what_is_there_is_found(tmp_path: Path) -> None:
    store = VoteStore(tmp_path / "votes.db")
    keys = [VoteKey("m", "estimate", 3, 0.5, 0, 1, i, i + 1000) for i in range(0, 5000, 1000)]
    counts = {key: Counts([key.start, 1], 0.5, "host") for key in keys}
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
        "    store.put({key: Counts([image], 0.0, 'host')})\n"
        "    if image == 40:\n"
        "        os.kill(os.getpid(), 9)\n"
    )
    path = tmp_path / "votes.db"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script, str(path)], cwd=root, check=False)
    assert done.returncode == -9
    assert {k.image: c.votes for k, c in recorded(path).items()} == {
        image: [image] for image in range(41)
    }
