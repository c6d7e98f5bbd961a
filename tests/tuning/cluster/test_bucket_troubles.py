"""The copy of a run in a bucket whose server is throttled, broken, or cuts connections."""

from pathlib import Path

import pytest

from tests.support.buckets import Trouble, bucket
from tuning.cluster.mirror import Mirror
from tuning.cluster.storage import open_storage

KINDS = ["throttled", "broken", "cut"]
FILES = {f"{number}.parquet": bytes([number]) * (number * 50_000 + 1) for number in range(4)}


def written(folder: Path) -> Path:
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def fetched(folder: Path, url: str) -> dict[str, bytes]:
    """What a different host gets."""
    Mirror(folder, open_storage(url)).fetch()
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.mark.parametrize("kind", KINDS)
def test_requests_that_fail_now_and_then_are_repeated(kind: str, tmp_path: Path) -> None:
    trouble = Trouble(kind, lambda request: request % 3 == 0)
    with bucket("runs", trouble) as url:
        with Mirror(written(tmp_path / "run"), open_storage(url)).following():
            pass
        assert fetched(tmp_path / "other", url) == FILES
    assert trouble.failed > 2


@pytest.mark.parametrize("kind", ["throttled", "cut"])
def test_what_could_not_be_copied_is_copied_when_the_bucket_answers_again(
    kind: str, tmp_path: Path
) -> None:
    answers = True
    with bucket("runs", Trouble(kind, lambda _: not answers)) as url:
        mirror = Mirror(written(tmp_path / "run"), open_storage(url))
        with mirror.following():
            pass
        (tmp_path / "run" / "0.parquet").write_bytes(b"newer")
        answers = False
        with pytest.raises(OSError, match="operation"):
            mirror.push()
        answers = True
        # What is there is whole, and an earlier state of this run.
        assert fetched(tmp_path / "before", url) == FILES
        mirror.push()
        assert fetched(tmp_path / "after", url) == FILES | {"0.parquet": b"newer"}
