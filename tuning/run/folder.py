"""A run folder: where its files are, who may write to it, and its copy in the storage."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import filelock

from results import files
from tuning.cluster.connection import Cluster
from tuning.cluster.mirror import LOCK, Mirror
from tuning.cluster.storage import Storage
from tuning.config import RunConfig
from tuning.errors import ConfigError


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; `flag` is the flag that determines it on the command line.

    For example:

        folder = RunFolder(Path("runs/first"))
        with folder.locked():
            write_text(folder.config, to_yaml(config))
    """

    path: Path
    flag: str = "--name"

    @property
    def config(self) -> Path:
        """The resolved configuration: a folder without one holds no run."""
        return self.path / files.CONFIG

    @property
    def manifest(self) -> Path:
        """Versions, seeds, hashes and hardware."""
        return self.path / files.MANIFEST

    @property
    def ledger(self) -> Path:
        """The studies of all settings."""
        return self.path / files.LEDGER

    @property
    def summary(self) -> Path:
        """One row for each setting and variant."""
        return self.path / files.SUMMARY

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / files.REPORT

    @property
    def tensorboard(self) -> Path:
        """What TensorBoard shows."""
        return self.path / files.TENSORBOARD

    @property
    def ray_log(self) -> Path:
        """What Ray and other libraries print."""
        return self.path / files.RAY_LOG

    @property
    def occupied(self) -> bool:
        """Whether there is anything in it, or a file in its place."""
        if not self.path.is_dir():
            return self.path.exists()
        # A start that was interrupted at once leaves only its lock file.
        return any(path.name != LOCK for path in self.path.iterdir())

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and keep other processes out of it.

        A new folder is removed if a bad configuration or a bad disk ends the block before any trial
        has ended.

        Raises:
            ConfigError: when another process has it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.path / LOCK)
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            raise ConfigError(f"{self.flag}: another launcher is working on {self.path}") from error
        except OSError as error:
            raise ConfigError(f"--out: {self.path} cannot be written: {error.strerror}") from error
        with lock:
            new = not self.occupied
            try:
                yield
            except (ConfigError, OSError) as error:
                # The trials of a run that is resumed may be in a database elsewhere.
                if new and not any(self.path.glob(f"*/{files.TRIALS}")):
                    shutil.rmtree(self.path, ignore_errors=True)
                if isinstance(error, OSError) and error.filename is None:
                    error.filename = str(self.path)
                raise

    def fetch(self, storage: Storage) -> None:
        """Bring the run here from its storage, if a different host was the last to work on it.

        Raises:
            ConfigError: when another process has the folder, or the storage cannot be read.
        """
        with self.locked() if self.config.is_file() else nullcontext():
            Mirror(self.path, storage).fetch()

    def mirrored(self, config: RunConfig, cluster: Cluster) -> AbstractContextManager[None]:
        """Keep the copy in --storage up to date during the block, if there is one.

        Raises:
            OSError: as `Mirror.following`.
        """
        if config.storage is None:
            return nullcontext()
        return Mirror(self.path, cluster.storage).following()
