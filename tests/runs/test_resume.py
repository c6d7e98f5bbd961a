import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable

import psutil
import pyarrow.parquet as pq
import pytest

from tests.support.runs import (
    SETTING,
    TINY,
    VARIANTS,
    Finished,
    Workplace,
    finished_trials,
    tables,
    without_incidentals,
)

pytestmark = pytest.mark.timeout(1800)


def interrupt_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Press Ctrl-C, as a terminal does, once `ready`; the exit code and standard error."""
    deadline = time.monotonic() + 300
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=300)
    return process.returncode, err


def kill_one_trial_worker(process: subprocess.Popen[str]) -> None:
    """Kill -9 the first worker that runs a trial, as the kernel does when memory runs out."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "Trainable" in " ".join(worker.cmdline()):
                    worker.kill()
                    return
        time.sleep(0.02)
    raise AssertionError("no worker ran a trial")


def test_interrupted_run_on_one_worker_equals_the_reference(
    reference_run: Finished, workplace: Workplace
) -> None:
    arguments = ["--name=interrupted", "--concurrency=1", *TINY]
    folder = workplace.folder / "interrupted"

    def some_trials_ended() -> bool:
        path = folder / SETTING / "trials.parquet"
        return path.exists() and pq.read_metadata(path).num_rows >= 7

    code, err = interrupt_when(workplace.start(*arguments), some_trials_ended)
    assert code == 130
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    (before,) = tables(folder, ["trials"])

    def some_images_certified() -> bool:
        path = folder / SETTING / "votes.db"
        if not path.exists():
            return False
        with sqlite3.connect(path) as db:
            query = "SELECT COUNT(*) FROM counts WHERE phase = 'estimate'"
            try:
                return bool(db.execute(query).fetchone()[0] >= 3)
            except sqlite3.OperationalError:
                return False

    resume = ["--name=interrupted", "--resume", "--concurrency=1"]
    code, err = interrupt_when(workplace.start(*resume), some_images_certified)
    assert code == 130
    workplace.run(*resume, "--json")

    (after,) = tables(folder, ["trials"])
    assert after[: len(before)] == before
    assert finished_trials(folder) == finished_trials(reference_run.folder)
    interrupted, reference = (
        tables(f, ["certificates"])[0] for f in (folder, reference_run.folder)
    )
    assert without_incidentals(interrupted) == without_incidentals(reference)


def test_wrong_token_is_one_line(workplace: Workplace, foreign_cluster: str) -> None:
    wrong = workplace.environment | {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "f" * 64}
    run = Workplace(workplace.folder, wrong).run(
        "--name=wrong", f"--cluster={foreign_cluster}", code=2
    )
    assert "refuses the token" in run.err
    assert run.err.count("\n") == 1
    assert not run.folder.exists()
    (workplace.folder / "home" / ".ray" / "auth_token").unlink(missing_ok=True)
    without = workplace.run("--name=wrong", f"--cluster={foreign_cluster}", code=2)
    assert "wants a token" in without.err


def test_more_trials_extend_a_finished_run_though_a_worker_dies_and_its_votes_are_damaged(
    reference_run: Finished, workplace: Workplace
) -> None:
    folder = workplace.folder / "extended"
    shutil.copytree(reference_run.folder, folder)
    before = tables(reference_run.folder, ["trials"])[0]
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("name: reference", "name: extended"))
    votes = folder / SETTING / "votes.db"
    process = workplace.start("--name=extended", "--resume", "--trials=7")
    kill_one_trial_worker(process)
    # Not before: it would be refused before the search.
    votes.write_text("no database" * 1000)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 4, err
    assert "--resume" in err.splitlines()[-1]
    assert "Traceback" not in err
    votes.unlink()
    run = workplace.run("--name=extended", "--resume", "--json")
    after = tables(run.folder, ["trials"])[0]
    assert after[: len(before)] == before
    assert [row["root"] for row in after[len(before) :]] == [15, 16]
    assert all(row["state"] != "failed" for row in after)
    assert [row["variant"] for row in run.summary] == VARIANTS
    ours, reference = (tables(f, ["certificates"])[0] for f in (folder, reference_run.folder))
    baselines = [
        [row for row in without_incidentals(rows) if row["variant"] != "best"]
        for rows in (ours, reference)
    ]
    assert baselines[0] == baselines[1]


def test_resume_refuses_another_classifier(reference_run: Finished, workplace: Workplace) -> None:
    folder = workplace.folder / "swapped"
    shutil.copytree(reference_run.folder, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("name: reference", "name: swapped"))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["settings"][SETTING]["classifier_hash"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    run = workplace.run("--name=swapped", "--resume", code=2)
    assert "--classifier" in run.err.splitlines()[-1]
    assert tables(folder, ["certificates"]) == tables(reference_run.folder, ["certificates"])


def test_resume_refuses_a_changed_setting(reference_run: Finished, workplace: Workplace) -> None:
    for flag in ("--shots=5", "--noise=quantised"):
        refused = workplace.run("--name=reference", "--resume", flag, code=2)
        assert flag.partition("=")[0] in refused.err
        assert refused.err.count("\n") == 1
    fewer = workplace.run("--name=reference", "--resume", "--trials=1", code=2)
    assert "--trials" in fewer.err
