import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.buckets import bucket
from tuning.cluster.storage import Storage, open_storage
from tuning.config import make_config
from tuning.errors import ConfigError


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with bucket("results") as url:
        yield url


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path, s3: str) -> Storage:
    url = s3 if request.param == "s3" else str(tmp_path / "shared")
    return open_storage(url) / str(request.node.name)


def test_files_come_back_as_they_were_written(storage: Storage) -> None:
    assert (storage.files(), storage.folders()) == ([], [])
    storage.write("b/c.bin", b"1")
    storage.write("a", b"old")
    storage.write("a", b"new")
    assert storage.files() == ["a", "b/c.bin"]
    assert storage.folders() == ["b"]
    assert (storage.read("a"), (storage / "b").read("c.bin")) == (b"new", b"1")


def test_a_folder_is_removed_with_all_that_is_in_it_and_nothing_else(storage: Storage) -> None:
    for name in ("a/1", "a/b/2", "other"):
        storage.write(name, b"")
    (storage / "a").remove()
    (storage / "never there").remove()
    assert storage.files() == ["other"]
    with pytest.raises(OSError, match="a/1"):
        storage.read("a/1")


def test_a_storage_travels_to_workers_without_credentials(s3: str) -> None:
    storage = open_storage(s3)
    content = pickle.dumps(storage)
    assert b"planted" not in content
    pickle.loads(content).write("from a worker", b"1")
    assert storage.read("from a worker") == b"1"


def test_a_bucket_that_is_not_there_is_refused(s3: str) -> None:
    with pytest.raises(ConfigError, match=r"--storage: s3://nobodys.* does not exist; create"):
        open_storage(s3.replace("results", "nobodys"))


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"--storage: .*file/runs cannot be used: "):
        open_storage(str(tmp_path / "file" / "runs"))


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://host/runs", "neither a folder nor s3://BUCKET/FOLDER"),
        ("s3://key:secret@bucket/runs", "credentials in it are visible to everyone"),
        ("s3://bucket/runs?secret_key=x", "credentials in it are visible to everyone"),
        ("runs", "must be an absolute path"),
        ("s3://bucket/../other", "must not contain .."),
    ],
)
def test_urls_that_cannot_be_meant_are_refused(url: str, why: str) -> None:
    with pytest.raises(ConfigError, match=rf"--storage: .*{why}"):
        make_config({"name": "x", "storage": url})
