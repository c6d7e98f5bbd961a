"""What TensorBoard itself makes of what is written for it."""

import json
import math
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.support.runs import HANGING, free_port, wait_for_port
from tuning.monitoring.tensorboard import StudyBoard, Value

VARIED: dict[str, Value] = {"sigma": 0.25, "w_mmd": 4.0, "schedule": "cosine", "flip": False}
COLUMNS: dict[str, Sequence[Value]] = {
    "Origin": ["published", "start", "search"],
    "sigma": [],
    "w_mmd": [],
    "schedule": ["constant", "cosine"],
    "flip": [False, True],
}
METRICS = ["certified/score", "certified/accuracy at 0.5"]
LOSSES = [{"mmd": 0.5, "label": 1.0}, {"mmd": 0.4, "label": 0.9}]


def reported(epochs: int, objective: float = 0.4, **more: Any) -> dict[str, Any]:
    return {
        "epochs": epochs, "losses": LOSSES, "learning_rates": [1e-3, 5e-4],
        "objective": objective, "accuracy": objective + 0.1, **more,
    }  # fmt: skip


def images(value: int = 7, size: int = 8) -> np.ndarray:
    return np.full((3, 2, 1, size, size), value, dtype=np.uint8)


def events(folder: Path, run: str) -> EventAccumulator:
    return EventAccumulator(str(folder / run), size_guidance={"images": 0}).Reload()


def steps(folder: Path, run: str, tag: str) -> list[int]:
    return [event.step for event in events(folder, run).Scalars(tag)]


@contextmanager
def tensorboard(folder: Path) -> Iterator[str]:
    """A TensorBoard on the folder: the address of its API."""
    port = free_port()
    command = [sys.executable, "-m", "tensorboard.main", f"--logdir={folder}", f"--port={port}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield f"http://127.0.0.1:{port}/data"
    finally:
        process.terminate()
        process.wait(timeout=HANGING)


def asked(url: str, question: Any = None) -> Any:
    if question is None:
        answer = requests.get(url, timeout=HANGING)
    else:
        answer = requests.post(url, json.dumps(question), timeout=HANGING)
    answer.raise_for_status()
    return answer.json()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What TensorBoard says of a small study: its runs, and the HParams table."""
    folder = tmp_path_factory.mktemp("tensorboard")
    board = StudyBoard(folder)
    board.columns(COLUMNS, METRICS, "## a study")
    board.result("000 published", reported(2))
    board.result("000 published", reported(4, 0.5))
    board.end("000 published", "complete", "published", 0, VARIED)
    board.result("010 start", reported(2, 0.1))
    board.end("010 start", "pruned", "start", 10, {**VARIED, "w_mmd": 0.0})
    board.result("011 search", reported(2, math.nan, error="loss term mmd became nan"))
    board.end("011 search", "failed", "search", 11, VARIED)
    board.end("012 search", "failed", "search", 12, VARIED)
    board.certified("best", "search", 0, VARIED, dict.fromkeys(METRICS, 0.6), "It is proved.")
    board.close()
    with tensorboard(folder) as api:
        deadline = time.monotonic() + HANGING
        while len(runs := asked(f"{api}/runs")) < 6 and time.monotonic() < deadline:
            time.sleep(0.2)
        hparams = f"{api}/plugin/hparams"
        experiment = asked(f"{hparams}/experiment", {"experimentName": ""})
        question = {
            "experimentName": "",
            "allowedStatuses": [
                f"STATUS_{s}" for s in ("UNKNOWN", "SUCCESS", "FAILURE", "RUNNING")
            ],
            "colParams": [{"metric": info["name"]} for info in experiment["metricInfos"]],
            "startIndex": 0,
            "sliceSize": 100,
        }
        groups = asked(f"{hparams}/session_groups", question)["sessionGroups"]
        texts = asked(f"{api}/plugin/text/tags")
    return {"runs": runs, "experiment": experiment, "groups": groups, "texts": texts}


def rows(shown: dict[str, Any], column: str) -> dict[str, Any]:
    """A column of the HParams table, by run."""
    return {g["name"]: g["hparams"].get(column) for g in shown["groups"]}


def test_runs_sort_by_number_and_say_what_they_are(shown: dict[str, Any]) -> None:
    trials = ["000 published", "010 start", "011 search", "012 search"]
    assert sorted(shown["runs"]) == [*trials, "about", "certified best"]


def test_hyperparameters_that_vary_and_scores_are_the_columns(shown: dict[str, Any]) -> None:
    experiment = shown["experiment"]
    columns = [info["name"] for info in experiment["hparamInfos"]]
    assert columns == ["Origin", "State", "Trial", *sorted(VARIED)]
    (states,) = (i["domainDiscrete"] for i in experiment["hparamInfos"] if i["name"] == "State")
    assert {"complete", "pruned", "failed", "certified"} == set(states)
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert metrics == ["evaluation/objective", "evaluation/clean accuracy", *METRICS]


def test_every_trial_is_a_row_with_its_state(shown: dict[str, Any]) -> None:
    assert sorted(state for state in rows(shown, "State").values()) == [
        "certified", "complete", "failed", "failed", "pruned",
    ]  # fmt: skip
    pruned = next(g for g in shown["groups"] if g["hparams"]["State"] == "pruned")
    assert pruned["hparams"]["w_mmd"] == 0
    assert pruned["hparams"]["flip"] is False
    (session,) = pruned["sessions"]
    assert session["status"] == "STATUS_SUCCESS"
    values = {m["name"]["tag"]: m["value"] for m in session["metricValues"]}
    assert values == pytest.approx(
        {"evaluation/objective": 0.1, "evaluation/clean accuracy": 0.2}, abs=1e-6
    )
    failed = [g for g in shown["groups"] if g["hparams"]["State"] == "failed"]
    assert {s["status"] for g in failed for s in g["sessions"]} == {"STATUS_FAILURE"}


def test_what_was_certified_is_a_row_and_its_sentence_a_text(shown: dict[str, Any]) -> None:
    certified = next(g for g in shown["groups"] if g["hparams"]["State"] == "certified")
    values = {m["name"]["tag"]: m["value"] for m in certified["sessions"][0]["metricValues"]}
    assert values == pytest.approx(dict.fromkeys(METRICS, 0.6))
    assert "what was proved/text_summary" in shown["texts"]["certified best"]


def test_each_epoch_has_its_losses_and_learning_rate(tmp_path: Path) -> None:
    board = StudyBoard(tmp_path)
    board.result("000 published", reported(2))
    board.result("000 published", reported(4))
    board.close()
    for tag in ("loss/mmd", "loss/label", "optimiser/learning rate"):
        assert steps(tmp_path, "000 published", tag) == [1, 2, 3, 4]
    assert steps(tmp_path, "000 published", "evaluation/objective") == [2, 4]


def test_a_trial_that_paused_has_no_score_there(tmp_path: Path) -> None:
    board = StudyBoard(tmp_path)
    board.result("000 published", reported(2, math.nan, paused=True))
    board.close()
    assert "evaluation/objective" not in events(tmp_path, "000 published").Tags()["scalars"]


@pytest.mark.parametrize("restarted", [False, True])
def test_what_is_written_twice_is_shown_once(tmp_path: Path, restarted: bool) -> None:
    board = StudyBoard(tmp_path)
    board.result("007 search", reported(2))
    board.result("007 search", reported(4))
    if restarted:
        board.close()
        # Event files are read in the order of the seconds in their names.
        time.sleep(1.1)
        board = StudyBoard(tmp_path)
    board.result("007 search", reported(4, 0.6))
    board.end("007 search", "complete", "search", 9, VARIED)
    assert steps(tmp_path, "007 search", "loss/mmd") == [1, 2, 3, 4]
    scores = events(tmp_path, "007 search").Scalars("evaluation/objective")
    assert [(e.step, round(e.value, 3)) for e in scores] == [(2, 0.4), (4, 0.6)]


def test_what_is_written_at_once_replaces_what_was_there(tmp_path: Path) -> None:
    for score in (0.5, 0.7):
        board = StudyBoard(tmp_path)
        board.columns(COLUMNS, METRICS, "about")
        board.certified("best", "search", 3, VARIED, {"certified/score": score})
        board.winner(images())
    (event,) = events(tmp_path, "certified best").Scalars("certified/score")
    assert event.value == pytest.approx(0.7)
    (tag,) = events(tmp_path, "winner").Tags()["images"]
    assert len(events(tmp_path, "winner").Images(tag)) == 1


def test_images_are_shown_of_the_best_trial_at_each_rung(tmp_path: Path) -> None:
    board = StudyBoard(tmp_path)
    board.best[2] = 0.15
    for number, (epochs, objective) in enumerate(
        [(2, 0.1), (2, 0.2), (4, 0.1), (2, 0.2), (2, 0.3)]
    ):
        run = f"{number:03d} search"
        board.result(run, reported(epochs, objective, denoised=images(size=8)))
    board.close()
    found = events(tmp_path, "best so far")
    seen = {tag: [e.step for e in found.Images(tag)] for tag in found.Tags()["images"]}
    assert seen == {
        "images/best at epoch 2: clean, noisy, denoised": [1, 4],
        "images/best at epoch 4: clean, noisy, denoised": [2],
    }
    # Three rows of two images, enlarged to 64 pixels each.
    image = found.Images("images/best at epoch 4: clean, noisy, denoised")[0]
    assert (image.height, image.width) == (3 * 64, 2 * 64)
    assert board.best == {2: 0.3, 4: 0.1}


def test_a_trial_leaves_one_file_and_nothing_open(tmp_path: Path) -> None:
    board = StudyBoard(tmp_path)
    board.result("000 published", reported(2))
    board.end("000 published", "complete", "published", 0, VARIED)
    assert len(list((tmp_path / "000 published").iterdir())) == 1
    assert not board._writers
