"""optuna-dashboard, which users open on the study of a run."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import requests
from optuna_dashboard import get_note

from tests.support.ledgers import drive, open_ledger
from tests.support.runs import free_port, wait_for_port
from tuning.study.database import sqlite_url, write_note


@contextmanager
def dashboard(url: str) -> Iterator[str]:
    """An optuna-dashboard on the database: the address of its API."""
    port = free_port()
    program = Path(sys.executable).with_name("optuna-dashboard")
    process = subprocess.Popen(
        [str(program), url, "--host=127.0.0.1", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/api"
    finally:
        process.terminate()
        process.wait(timeout=300)


def fetch(url: str) -> Any:
    answer = requests.get(url, timeout=300)
    answer.raise_for_status()
    return answer.json()


def test_dashboard_shows_every_trial_of_the_ledger(tmp_path: Path) -> None:
    ledger = open_ledger(tmp_path, trials=20, name="run/digits-10shot")
    drive(ledger, workers=2)
    longer = open_ledger(
        tmp_path, trials=24, name="run/digits-10shot", objective="certified-accuracy"
    )
    running = longer.next_proposal()
    assert running is not None
    with dashboard(sqlite_url(tmp_path / "study.db")) as api:
        (listed,) = fetch(f"{api}/studies")["study_summaries"]
        shown = fetch(f"{api}/studies/{listed['study_id']}")
    assert listed["study_name"] == "run/digits-10shot"
    assert listed["directions"] == ["maximize"]
    finished = {r.number: r.state for r in longer.attempts.records()}
    states = {trial["number"]: trial["state"].lower() for trial in shown["trials"]}
    assert {number: states[number] for number in finished} == finished
    assert {"complete", "pruned"} == set(finished.values())
    assert states[running.number] == "running"
    assert [trial["values"] for trial in shown["best_trials"]] == [[longer.attempts.highest]]
    parameters = {p["name"] for p in shown["union_search_space"]}
    assert parameters == set(longer.points.space.parameters)
    # What readers see of a weight is never the number that stands for zero.
    space, zeros = longer.points.space, 0
    for trial, record in zip(shown["trials"], longer.attempts.records(), strict=False):
        values = {p["name"]: p["param_external_value"] for p in trial["params"]}
        for name in (n for n in values if space.parameters[n].or_zero):
            assert float(values[name]) == getattr(record.hyperparameters, name)
            zeros += float(values[name]) == 0
    assert zeros
    assert shown["objective_names"] == ["certified-accuracy"]
    pruned = next(t for t in shown["trials"] if t["state"] == "Pruned")
    assert [v["step"] for v in pruned["intermediate_values"]] == [25]


def test_dashboard_shows_the_note_and_a_user_may_change_it(tmp_path: Path) -> None:
    url, long = sqlite_url(tmp_path / "study.db"), "It is provably right on 60 % of images. " * 100
    ledger = open_ledger(tmp_path)
    ledger.note(long)
    ledger.note("**under way**")
    study = optuna.load_study(study_name="digits", storage=url)
    assert get_note(study) == "**under way**"
    write_note(url, "digits", long)
    with dashboard(url) as api:
        (listed,) = fetch(f"{api}/studies")["study_summaries"]
        shown = fetch(f"{api}/studies/{listed['study_id']}")
        note = shown["note"]
        assert note["body"] == long
        changed = {"body": "mine", "version": note["version"] + 1}
        requests.put(f"{api}/studies/{listed['study_id']}/note", json=changed, timeout=300)
    write_note(url, "digits", "**over**")
    assert get_note(study) == "mine"
