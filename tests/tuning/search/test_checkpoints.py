from pathlib import Path

from trainables.trainable import CHECKPOINT
from tuning.cluster.storage import local_storage
from tuning.search.checkpoints import Scratch, trial_name


def checkpoint(folder: Path, start: str, number: int, rung: int) -> str:
    path = folder / start / trial_name("a", number) / f"checkpoint_{rung:06d}" / CHECKPOINT
    path.parent.mkdir(parents=True)
    path.write_bytes(b"state")
    return str(path)


def test_checkpoints_of_earlier_attempts_are_found_the_latest_first(tmp_path: Path) -> None:
    early, late = checkpoint(tmp_path, "1", 3, 0), checkpoint(tmp_path, "1", 3, 1)
    second = checkpoint(tmp_path, "2", 7, 0)
    checkpoint(tmp_path, "1", 4, 0)
    assert Scratch(local_storage(tmp_path)).checkpoints("a", (7, 3)) == [second, late, early]
    assert Scratch(local_storage(tmp_path)).checkpoints("b", (7, 3)) == []


def test_a_trial_loses_its_checkpoints_when_the_next_one_ends(tmp_path: Path) -> None:
    first, second = checkpoint(tmp_path, "1", 1, 0), checkpoint(tmp_path, "1", 2, 0)
    running, scratch = checkpoint(tmp_path, "1", 3, 0), Scratch(local_storage(tmp_path))
    scratch.ended("a", 1)
    assert Path(first).exists()
    scratch.ended("a", 2)
    assert not Path(first).exists()
    assert Path(second).exists()
    assert Path(running).exists()
    scratch.remove()
    assert not tmp_path.exists()
