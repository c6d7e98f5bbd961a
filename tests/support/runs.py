"""Starting real runs, and reading what they leave."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

# A whole run that takes longer hangs; on a busy machine with a slow processor one takes minutes.
HANGING = 900
REPO = Path(__file__).parents[2]
SETTING = "digits-10shot"
VARIANTS = ["none", "label_consistency", "published", "best"]
# What timing and placement may change from run to run.
INCIDENTAL = {"seconds", "node", "number"}
# A whole run in a quarter of a minute: few epochs, few votes, but two cohorts and both rungs.
TINY = [
    "--trials=5",
    "--cohort=2",
    "--seed=3",
    "--set=epochs=8",
    "--tuning-votes=50",
    "--confirm-votes=50",
    "--certify-images=12",
    "--n=2000",
    "--n0=50",
    # Not measured, which a busy machine could do one way or the other.
    "--precision=float32",
]


@dataclass(frozen=True)
class Finished:
    """A run that ended: its folder, and what it printed."""

    folder: Path
    out: str
    err: str

    @property
    def summary(self) -> list[dict[str, Any]]:
        """The summary on the last line of standard output."""
        rows: list[dict[str, Any]] = json.loads(self.out.splitlines()[-1])["summary"]
        return rows


@dataclass(frozen=True)
class Workplace:
    """A folder for runs, and an environment in which base classifiers are cached."""

    folder: Path
    environment: dict[str, str]

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command line in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "tuning.launch", f"--out={self.folder}", *arguments],
            cwd=REPO,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0) -> Finished:
        """Run the command line to its end, which must have the exit code `code`."""
        process = self.start(*arguments)
        out, err = process.communicate(timeout=HANGING)
        assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
        names = [a.removeprefix("--name=") for a in arguments if a.startswith("--name=")]
        return Finished(self.folder / (names[0] if names else ""), out, err)


def free_port() -> int:
    """A port that nothing listens on; above those that Ray gives to its workers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for_port(port: int) -> None:
    """Wait until something listens on the loopback port."""
    deadline = time.monotonic() + 300
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def tables(folder: Path, names: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Rows of tables of the run's only setting."""
    return [pq.read_table(folder / SETTING / f"{n}.parquet").to_pylist() for n in names]


def without_incidentals(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in INCIDENTAL} for row in rows]


def finished_trials(folder: Path) -> list[dict[str, object]]:
    """Trials that were not interrupted, by root."""
    (trials,) = tables(folder, ["trials"])
    rows = [row for row in trials if row["state"] != "failed"]
    return without_incidentals(sorted(rows, key=lambda row: row["root"]))
