import itertools
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from tuning.cluster.mirror import Mirror
from tuning.cluster.storage import Storage, local_storage


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return local_storage(tmp_path / "shared")


def host(tmp_path: Path, name: str) -> Path:
    """The run folder on a host of that name."""
    return tmp_path / name / "run"


def work(folder: Path, storage: Storage, **files: str) -> None:
    """A launcher that fetches, writes these files and ends."""
    mirror = Mirror(folder, storage)
    mirror.fetch()
    folder.mkdir(parents=True, exist_ok=True)
    with mirror.following():
        for name, text in files.items():
            (folder / name).write_text(text)


def content(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in folder.iterdir() if not p.name.startswith(".")}


def test_another_host_goes_on_where_the_last_one_stopped(tmp_path: Path, storage: Storage) -> None:
    one, two = host(tmp_path, "one"), host(tmp_path, "two")
    work(one, storage, study="1", votes="1")
    work(two, storage, study="2")
    assert content(two) == {"study": "2", "votes": "1"}
    work(one, storage, report="3")
    assert content(one) == {"study": "2", "votes": "1", "report": "3"}


def test_what_a_host_had_before_is_kept_beside_what_it_fetched(
    tmp_path: Path, storage: Storage
) -> None:
    one = host(tmp_path, "one")
    work(one, storage, study="1")
    (one / "notes").write_text("written after the end")
    work(host(tmp_path, "two"), storage, study="2")
    Mirror(one, storage).fetch()
    assert content(one) == {"study": "2"}
    (before,) = one.parent.glob("run.before-*")
    assert content(before) == {"study": "1", "notes": "written after the end"}


def test_who_wrote_last_keeps_what_was_not_copied_any_more(
    tmp_path: Path, storage: Storage
) -> None:
    one = host(tmp_path, "one")
    work(one, storage, study="1")
    # The launcher was killed before it could copy this.
    (one / "study").write_text("2")
    Mirror(one, storage).fetch()
    assert content(one) == {"study": "2"}


def test_nothing_is_fetched_where_there_is_nothing(tmp_path: Path, storage: Storage) -> None:
    mirror = Mirror(host(tmp_path, "one"), storage)
    mirror.fetch()
    assert not mirror.exists
    assert not host(tmp_path, "one").exists()


def test_checkpoints_of_a_running_search_are_not_fetched(tmp_path: Path, storage: Storage) -> None:
    work(host(tmp_path, "one"), storage, study="1")
    storage.write("tune/1/checkpoint", b"large")
    work(host(tmp_path, "two"), storage)
    assert content(host(tmp_path, "two")) == {"study": "1"}


def test_a_database_is_copied_whole_while_it_is_written(tmp_path: Path, storage: Storage) -> None:
    folder = host(tmp_path, "one")
    folder.mkdir(parents=True)
    mirror, begun, ended = Mirror(folder, storage), threading.Event(), threading.Event()
    with closing(sqlite3.connect(folder / "study.db")) as db, db:
        db.execute("CREATE TABLE pairs (a INTEGER, b INTEGER)")

    def write() -> None:
        with closing(sqlite3.connect(folder / "study.db", timeout=30)) as db:
            db.execute("PRAGMA synchronous = OFF")
            for number in itertools.count():
                with db:
                    db.execute("INSERT INTO pairs VALUES (?, ?)", (number, -number))
                begun.set()
                if ended.is_set():
                    return

    writer = threading.Thread(target=write)
    writer.start()
    begun.wait()
    rows = 1
    for _ in range(5):
        mirror.push()
        copy = tmp_path / "copy.db"
        copy.write_bytes(storage.read("study.db"))
        with closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            found = db.execute("SELECT COUNT(*), SUM(a + b) FROM pairs").fetchone()
        assert found[0] >= rows
        assert not found[1]
        rows = found[0]
    ended.set()
    writer.join()


def test_a_storage_that_fails_at_the_end_is_an_error(tmp_path: Path, storage: Storage) -> None:
    folder = host(tmp_path, "one")
    folder.mkdir(parents=True)
    shared = Path(storage.folder)

    def fail() -> None:
        with Mirror(folder, storage).following():
            (folder / "study").write_text("1")
            shared.rename(tmp_path / "gone")
            shared.write_text("no folder any more")

    with pytest.raises(OSError, match="shared"):
        fail()
