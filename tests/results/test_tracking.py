"""A run in MLflow and in Weights & Biases, written and read by their own clients."""

import json
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from results.run import load_run
from results.tracking.command import main
from results.tracking.tracked import tracked
from tests.support.invented import write_run

BLOCK, FULL, MIDDLE, LAST = 32768, 1, 3, 4
SETTINGS = ("digits-10shot", "digits-5shot")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("tracking") / "demo", SETTINGS)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """MLflow's client of a database of its own."""
    # Seconds, which every process of the suite would spend.
    import mlflow

    monkeypatch.chdir(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    yield mlflow.MlflowClient()
    mlflow.set_tracking_uri(before)


def test_each_trial_is_a_run_with_what_was_certified_of_it(folder: Path) -> None:
    run = load_run(folder)
    found = list(tracked(run))
    assert len({one.key for one in found}) == len(found)
    for setting in run.settings:
        mine = [one for one in found if one.setting == setting.name]
        untrained = [row for row in setting.summary if row["trial"] is None]
        assert len(mine) == len(setting.trials) + len(untrained)
        (best,) = (one for one in mine if one.labels.get("variant") == "best")
        (row,) = (row for row in setting.summary if row["variant"] == "best")
        assert best.name == f"{setting.name} {row['trial']:03d} {row['origin']}"
        assert best.metrics["certified/accuracy at 0.5"] == row["certified_accuracy_0_5"]
        assert best.metrics["certified/wrong at 0.5"] == row["certified_wrong_0_5"]
        (none,) = (one for one in mine if one.labels.get("variant") == "none")
        assert none.hyperparameters.keys() == {"sigma"}
        assert "objective" not in none.metrics


def test_mlflow_has_a_run_for_each_trial_below_one_that_holds_the_report(
    folder: Path, store: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "report.html").write_text("what was found")
    for _ in range(2):  # The second time, nothing is there twice.
        assert main([str(folder), "--to", "mlflow"]) == 0
    assert "experiment decrop" in capsys.readouterr().out
    experiment = store.get_experiment_by_name("decrop")
    assert experiment is not None
    runs = store.search_runs([experiment.experiment_id])
    found = {run.info.run_name: run for run in runs}
    assert len(found) == len(runs)
    parent = found.pop("demo")
    assert [file.path for file in store.list_artifacts(parent.info.run_id)] == ["report.html"]
    assert "digits-5shot: At radius 0.5" in parent.data.tags["mlflow.note.content"]
    expected = {one.name: one for one in tracked(load_run(folder))}
    assert found.keys() == expected.keys()
    for name, one in expected.items():
        data = found[name].data
        assert data.metrics == dict(one.metrics)
        assert data.params == {name: str(value) for name, value in one.hyperparameters.items()}
        assert data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert {name: data.tags[name] for name in one.labels} == dict(one.labels)
        (first,) = store.get_metric_history(found[name].info.run_id, next(iter(one.metrics)))
        assert first.step == 0
        failed = one.labels.get("state") == "failed"
        assert found[name].info.status == ("FAILED" if failed else "FINISHED")


def test_weights_and_biases_gets_a_run_for_each_trial_and_stays_offline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "demo", SETTINGS[:1])
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    assert main([str(folder), "--to", "wandb"]) == 0
    place = Path(capsys.readouterr().out.strip())
    assert place == tmp_path / "wandb"
    expected = {one.name: one for one in tracked(load_run(folder))}
    found = [read(path) for path in place.glob("offline-run-*/*.wandb")]
    assert {run["name"] for run in found} == expected.keys()
    assert len(found) == len(expected)
    for run in found:
        one = expected[run["name"]]
        assert run["group"] == "demo"
        assert run["config"] == {**one.hyperparameters, **one.labels}
        assert run["metrics"] == dict(one.metrics)


def read(path: Path) -> dict[str, Any]:
    """What is in the file of an offline run."""
    found: dict[str, Any] = {}
    for record in records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found |= {"name": record.run.display_name, "group": record.run.run_group}
            found["config"] = {
                item.key: json.loads(item.value_json)
                for item in record.run.config.update
                if not item.key.startswith("_")
            }
        elif kind == "history":
            items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
            found["metrics"] = {n: json.loads(v) for n, v in items.items() if n[0] != "_"}
    return found


def records(content: bytes) -> Iterator[Any]:
    """The records of a log in LevelDB's format: pieces in blocks, after a header."""
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]

    at, whole = 7, b""
    while at + 7 <= len(content):
        length, place = struct.unpack_from("<HB", content, at + 4)
        if place == 0:
            at += BLOCK - at % BLOCK
            continue
        whole = (whole if place in (MIDDLE, LAST) else b"") + content[at + 7 : at + 7 + length]
        at += 7 + length
        if BLOCK - at % BLOCK < 7:
            at += BLOCK - at % BLOCK
        if place in (FULL, LAST):
            yield Record.FromString(whole)


def test_what_cannot_be_tracked_is_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_run(tmp_path / "demo", SETTINGS[:1])
    assert main([str(tmp_path / "nothing"), "--to", "mlflow"]) == 2
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delitem(sys.modules, "results.tracking.to_wandb", raising=False)
    assert main([str(folder), "--to", "wandb"]) == 2
    for trials in folder.glob("*/trials.parquet"):
        trials.unlink()
    assert main([str(folder), "--to", "mlflow"]) == 2
    first, second, third = capsys.readouterr().err.splitlines()
    assert "no such run folder" in first
    assert second == "error: --to wandb needs its client: pip install wandb"
    assert third.endswith("no trial has ended yet")
    with pytest.raises(SystemExit, match="2"):
        main([str(folder), "--to", "elsewhere"])
