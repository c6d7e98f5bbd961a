import errno
from pathlib import Path

import filelock
import pytest

from tuning.cluster.mirror import LOCK, Mirror
from tuning.cluster.storage import local_storage
from tuning.errors import ConfigError
from tuning.run.folder import RunFolder


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "runs" / "first")


def refuse_in(folder: RunFolder, *written: Path) -> None:
    """Work on the folder until the configuration is refused."""
    with folder.locked():
        for path in (folder.config, *written):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"new")
        raise ConfigError("no")


def test_only_one_process_has_a_folder_at_a_time(folder: RunFolder) -> None:
    with folder.locked():
        message = rf"^--out: another launcher is working on {folder.path}$"
        with (
            pytest.raises(ConfigError, match=message),
            RunFolder(folder.path, flag="--out").locked(),
        ):
            pass
    with folder.locked():
        assert not folder.occupied


def test_a_lock_that_an_interrupted_start_left_occupies_nothing(folder: RunFolder) -> None:
    assert not folder.occupied
    with folder.locked():
        assert (folder.path / LOCK).exists()
        assert not folder.occupied
        folder.config.write_text("name: first")
        assert folder.occupied


def test_a_file_in_its_place_occupies_it_and_cannot_be_written_to(folder: RunFolder) -> None:
    folder.path.parent.mkdir()
    folder.path.write_text("a file where a folder should be")
    assert folder.occupied
    with pytest.raises(ConfigError, match=r"--out: .* cannot be written: "), folder.locked():
        pass


def test_a_refused_configuration_leaves_no_new_folder(folder: RunFolder) -> None:
    with pytest.raises(ConfigError):
        refuse_in(folder)
    assert not folder.path.exists()


def test_a_disk_that_is_full_from_the_start_leaves_no_new_folder(folder: RunFolder) -> None:
    with pytest.raises(OSError, match="No space left") as caught, folder.locked():
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.filename == str(folder.path)
    assert not folder.path.exists()


def test_a_refusal_keeps_what_was_there_before(folder: RunFolder) -> None:
    folder.path.mkdir(parents=True)
    folder.manifest.write_text("{}")
    with pytest.raises(ConfigError):
        refuse_in(folder)
    assert folder.manifest.read_text() == "{}"


def test_a_refusal_after_the_search_keeps_what_the_search_found(folder: RunFolder) -> None:
    trials = folder.path / "digits-10shot" / "trials.parquet"
    with pytest.raises(ConfigError):
        refuse_in(folder, trials)
    assert trials.read_bytes() == b"new"


def test_a_folder_on_which_a_process_works_is_not_replaced_by_its_copy(
    folder: RunFolder, tmp_path: Path
) -> None:
    storage = local_storage(tmp_path / "shared")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Mirror(elsewhere, storage).following():
        (elsewhere / "config.yaml").write_text("name: other")
    folder.path.mkdir(parents=True)
    folder.config.write_text("name: first")
    with filelock.FileLock(folder.path / LOCK), pytest.raises(ConfigError, match="is working on"):
        folder.fetch(storage)
    assert folder.config.read_text() == "name: first"
    folder.fetch(storage)
    assert folder.config.read_text() == "name: other"
    with folder.locked():
        pass
