"""Starting real runs, and reading what they leave."""

import json
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from results.store import write_json

# Seconds after which a run hangs; a slow and busy processor takes a quarter of an hour for one.
HANGING = 1500
REPO = Path(__file__).parents[2]
SETTING = "digits-10shot"
VARIANTS = ["none", "label_consistency", "published", "best"]
# What the summary holds: beside the variants, the published values at their best sigma.
CERTIFIED = [*VARIANTS[:3], "published_best_sigma", VARIANTS[3]]
# The points of a TINY run: published as it is, it and two kinds of plain denoised smoothing at the
# sigmas of the sweep, and what the search proposes.
POINTS = 1 + 3 * 2 + 4
# What timing and placement may change from run to run.
INCIDENTAL = {"seconds", "node", "number"}
# A whole run of half a minute: few epochs, few votes, but proposals and both rungs.
SPACE = REPO / "tests" / "support" / "tiny.yaml"
SMALLEST_SPACE = SPACE.with_name("smallest.yaml")
TINY = [
    f"--space={SPACE}",
    "--trials=5",
    "--virtual-workers=2",
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
# Each further worker takes longer to start than such a run has work for it.
ONE_WORKER = [*TINY, "--concurrency=1"]


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

    def copied(self, folder: Path) -> Path:
        """A copy of the run in a folder of another name."""
        shutil.copytree(self.folder, folder)
        return folder

    def save(self, path: Path) -> None:
        """Write down where the run is and what it printed, for other processes."""
        write_json(path, {"folder": str(self.folder), "out": self.out, "err": self.err})

    @classmethod
    def saved(cls, path: Path) -> "Finished":
        """The run that was saved there."""
        kept = json.loads(path.read_text())
        return cls(Path(kept["folder"]), kept["out"], kept["err"])


@dataclass(frozen=True)
class Launcher:
    """Starts runs in a folder; the environment says where base classifiers are cached.

    >>> launcher.run("--name=x", *TINY).summary
    """

    folder: Path
    environment: dict[str, str]

    def knowing(self, **variables: str) -> "Launcher":
        """The same, with further environment variables."""
        return replace(self, environment=self.environment | variables)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a search in the folder."""
        return self.start_module("tuning.launch", f"--out={self.folder}", *arguments)

    def start_module(self, module: str, *arguments: str) -> subprocess.Popen[str]:
        """Start `python -m module` in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=REPO,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, code: int = 0) -> Finished:
        """Run a search to its end, which must have the exit code `code`."""
        out, err = ended(self.start(*arguments), code)
        names = [a.removeprefix("--name=") for a in arguments if a.startswith("--name=")]
        return Finished(self.folder / (names[0] if names else ""), out, err)

    def certify(self, *arguments: str | Path, code: int = 0) -> str:
        """Run tuning.certify to its end; what it printed, the report last."""
        out, err = ended(self.start_module("tuning.certify", *map(str, arguments)), code)
        return err + out


def ended(
    process: subprocess.Popen[str], code: int = 0, timeout: float = HANGING
) -> tuple[str, str]:
    """What a process printed, which must end with the exit code `code`."""
    out, err = process.communicate(timeout=timeout)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    return out, err


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait until something is so, while the process that brings it about is alive."""
    deadline = time.monotonic() + HANGING
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def free_port() -> int:
    """A port that nothing listens on; above those that Ray gives to its workers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def wait_for_port(port: int) -> None:
    """Wait until something listens on the loopback port."""
    deadline = time.monotonic() + HANGING
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


def without_incidentals(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if k not in INCIDENTAL} for row in rows]


def count(path: Path, query: str) -> int:
    """What a query counts in a database of a run that goes on; 0 as long as there is none."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
            (found,) = db.execute(query).fetchone()
    except sqlite3.OperationalError:
        return 0
    return int(found)


def count_trials(folder: Path) -> int:
    """How many rows the table of trials has so far."""
    path = folder / SETTING / "trials.parquet"
    return int(pq.read_metadata(path).num_rows) if path.exists() else 0


def finished_trials(folder: Path) -> list[dict[str, Any]]:
    """Trials that were not interrupted, by root."""
    (trials,) = tables(folder, ["trials"])
    rows = [row for row in trials if row["state"] != "failed"]
    return without_incidentals(sorted(rows, key=lambda row: row["root"]))


def check_equal(folder: Path, reference: Path) -> None:
    """Both runs have the same trials and the same certificates."""
    assert finished_trials(folder) == finished_trials(reference)
    ours, theirs = (tables(f, ["certificates"])[0] for f in (folder, reference))
    assert without_incidentals(ours) == without_incidentals(theirs)


def said(process: subprocess.Popen[str], text: str) -> bool:
    """Whether the next line of standard error, which is waited for, has this text."""
    assert process.stderr is not None
    return text in process.stderr.readline()
