"""The ledger in PostgreSQL: a real server, with passwords."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import optuna
import psycopg
import pytest

from tests.support.ledgers import RUNGS, SPACE, drive, open_ledger, outcomes
from tests.support.postgres import Server
from tests.support.runs import SETTING, SMALLEST_SPACE, Launcher, ended, tables, wait_until
from tuning.errors import ConfigError
from tuning.launch import main
from tuning.study.ledger import Ledger
from tuning.study.points import Plan

# Six trials: the published point, two baselines at the space's one sigma, and three of a search.
SMALLEST = [
    f"--space={SMALLEST_SPACE}",
    "--trials=4",
    "--virtual-workers=2",
    "--set=epochs=8",
    "--tuning-votes=50",
    "--confirm-votes=50",
    "--confirm-top=1",
    "--confirm-folds=2",
    "--certify-images=4",
    "--n=100",
    "--n0=50",
]


@pytest.fixture
def url(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database, whose password this process knows."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    monkeypatch.setenv("PGPASSWORD", postgres.password)
    return postgres.new_database()


def in_postgres(url: str, name: str = "digits", run: str = "") -> Ledger:
    return Ledger(url, name, SPACE, Plan(8, 3, 1), RUNGS, run=run)


def test_ledger_in_postgresql_is_abandoned_and_resumed_to_what_one_in_sqlite_holds(
    url: str, tmp_path: Path
) -> None:
    ours = open_ledger(tmp_path)
    drive(ours, workers=2)
    # Trials of the abandoned process are still running.
    drive(in_postgres(url), workers=2, stop_after=12)
    resumed = in_postgres(url)
    assert resumed.reconcile() > 0
    drive(resumed, workers=2)
    assert resumed.finished
    assert outcomes(resumed) == outcomes(ours)
    assert in_postgres(url).attempts.records() == resumed.attempts.records()


def test_study_of_another_run_is_refused_and_another_study_is_not(url: str) -> None:
    in_postgres(url, "digits", run="1")
    in_postgres(url, "digits", run="1")
    in_postgres(url, "mnist", run="2")
    with pytest.raises(ConfigError, match="belongs to a different run"):
        in_postgres(url, "digits", run="2")


def test_lost_connection_is_made_again(url: str, postgres: Server) -> None:
    ledger = in_postgres(url)
    for _ in range(3):
        drive(ledger, workers=2, stop_after=3)
        postgres.disconnect_all()
    drive(ledger, workers=2)
    assert in_postgres(url).attempts.records() == ledger.attempts.records()


class Watch(threading.Thread):
    """Looks for a secret in the command line of every process of the machine."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.rounds = 0
        self._secret, self._over = secret, threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.2):
            self.rounds += 1
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes().decode(errors="replace")
                except OSError:
                    continue
                if self._secret in line:
                    self.found.add(line)

    def stop(self) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def watch(postgres: Server) -> Iterator[Watch]:
    thread = Watch(postgres.password)
    thread.start()
    yield thread
    thread.stop()


@pytest.fixture
def informed(launcher: Launcher, postgres: Server) -> Iterator[Launcher]:
    """Starts runs as a user who knows the password, with a folder of its own for Ray."""
    # A path of pytest's is too long for the sockets in it.
    folder = tempfile.mkdtemp(prefix="ray-")
    yield launcher.knowing(PGPASSWORD=postgres.password, RAY_TMPDIR=folder)
    shutil.rmtree(folder)


def wait_for_trials(url: str, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until so many trials of the database are complete."""
    query = "SELECT COUNT(*) FROM trials WHERE state = 'COMPLETE'"

    def complete() -> bool:
        # The tables are not there at first.
        with contextlib.suppress(psycopg.errors.UndefinedTable):
            ((found,),) = connection.execute(query).fetchall()
            return bool(found >= count)
        return False

    with psycopg.connect(url, autocommit=True) as connection:
        wait_until(complete, process)


def files(folder: Path) -> set[Path]:
    found = {path for path in folder.rglob("*") if path.is_file()}
    assert found
    return found


def holders(secret: str, folder: Path) -> list[Path]:
    """The files in a folder that hold a secret."""
    return [path for path in files(folder) if secret.encode() in path.read_bytes()]


def test_wrong_password_is_one_line_and_nothing_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PGPASSWORD", "not-the-password")
    assert main([f"--out={tmp_path}", "--name=unopened", f"--ledger={url}"]) == 2
    out, err = capsys.readouterr()
    assert err.startswith(f"error: --ledger: {url} cannot be used: ")
    assert "PGPASSWORD" in err
    assert err.count("\n") == 1
    assert "not-the-password" not in out + err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("127.0.0.1:", "127.0.0.1:1", "port"),
        ("127.0.0.1", "nowhere.invalid", "nowhere.invalid"),
        ("studies", "nothing", "does not exist"),
        ("searcher", "nobody", "password authentication failed"),
        ("postgresql:", "postgresql+psycopg2:", "psycopg2"),
    ],
)
def test_database_that_cannot_be_opened_is_named_with_the_reason(
    url: str, old: str, new: str, reason: str
) -> None:
    other = url.replace(old, new)
    with pytest.raises(ConfigError, match=reason) as caught:
        in_postgres(other)
    assert str(caught.value).startswith(f"--ledger: {other} cannot be used: ")
    assert "\n" not in str(caught.value)


def test_server_that_never_answers_is_given_up(
    url: str, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tuning.study.database.CONNECT_SECONDS", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        other = url.replace(str(postgres.port), str(silent.getsockname()[1]))
        with pytest.raises(ConfigError, match="timeout"):
            in_postgres(other)


def test_run_whose_database_goes_away_ends_in_one_line_and_resumes(
    informed: Launcher,
    postgres: Server,
    url: str,
    watch: Watch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    process = informed.start("--name=postgres", f"--ledger={url}", "--concurrency=1", *SMALLEST)
    wait_for_trials(url, 1, process)
    # They are gone when the run has ended.
    assert holders(postgres.password, Path(informed.environment["RAY_TMPDIR"])) == []
    postgres.stop()
    out, err = ended(process, code=4)
    assert "Traceback" not in err
    last = err.splitlines()[-1]
    assert last.startswith("error: the run stopped: ")
    assert url in last
    assert "--resume" in last

    folder = informed.folder / "postgres"
    before = files(folder)
    assert main([f"--out={informed.folder}", "--name=postgres", "--resume"]) == 2
    assert capsys.readouterr().err.startswith(f"error: --ledger: {url} cannot be used: ")
    assert files(folder) == before

    postgres.start()
    run = informed.run("--name=postgres", "--resume")
    (rows,) = tables(folder, ["trials"])
    study = optuna.load_study(study_name=f"postgres/{SETTING}", storage=url)
    assert [t.number for t in study.trials] == [row["number"] for row in rows]
    assert {row["root"] for row in rows if not row["error"]} == set(range(6))
    assert not (folder / "study.db").exists()

    assert postgres.password not in out + err + run.out + run.err
    assert folder / "config.yaml" in holders(url, folder)
    assert holders(postgres.password, folder) == []
    watch.stop()
    assert watch.rounds > 10
    assert watch.found == set()
