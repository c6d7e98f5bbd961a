import contextlib
import csv
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pyarrow.parquet as pq
import pytest
import torch
from scipy.stats import beta, norm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tuning.runs import REPO, TINY, Finished, Workplace, tables
from trainables.data.datasets import load_dataset
from trainables.models.checkpoint import load_classifier
from trainables.smoothing import SmoothedClassifier

pytestmark = pytest.mark.timeout(240)
SETTING = "digits-10shot"
VARIANTS = ["none", "label_consistency", "published", "best"]
# What timing and placement may change from run to run.
INCIDENTAL = {"seconds", "node", "number"}


def without_incidentals(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return [{k: v for k, v in row.items() if k not in INCIDENTAL} for row in rows]


def finished_trials(folder: Path) -> list[dict[str, object]]:
    """Trials that were not interrupted, by root."""
    (trials,) = tables(folder, ["trials"])
    rows = [row for row in trials if row["state"] != "failed"]
    return without_incidentals(sorted(rows, key=lambda row: row["root"]))


def interrupt_when(process: subprocess.Popen[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Press Ctrl-C, as a terminal does, once `ready`; the exit code and standard error."""
    deadline = time.monotonic() + 90
    while not ready():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


def test_run_leaves_every_promised_file(reference_run: Finished) -> None:
    for name in ("config.yaml", "manifest.json", "study.db", "summary.parquet", "report.html"):
        assert (reference_run.folder / name).is_file()
    for name in (
        "trials.parquet",
        "confirmation.parquet",
        "certificates.parquet",
        "curves.png",
        "smoothed_classifier/denoiser.safetensors",
        "smoothed_classifier/config.json",
        *(f"certificates/{variant}.tsv" for variant in VARIANTS),
    ):
        assert (reference_run.folder / SETTING / name).is_file()
    assert not (reference_run.folder / SETTING / "tune").exists()


def test_variants_are_certified_on_the_same_images(reference_run: Finished) -> None:
    (rows,) = tables(reference_run.folder, ["certificates"])
    images = {v: [r["image_index"] for r in rows if r["variant"] == v] for v in VARIANTS}
    assert len(rows) == 4 * 12
    assert len(set(images["best"])) == 12
    assert all(images[v] == images["best"] for v in VARIANTS)
    labels = load_dataset("digits").test.labels
    assert all(r["label"] == labels[r["image_index"]] for r in rows)


def test_certificates_follow_from_their_counts(reference_run: Finished) -> None:
    (rows,) = tables(reference_run.folder, ["certificates"])
    for r in rows:
        bound = beta.ppf(r["alpha"], r["votes_top"], r["n"] - r["votes_top"] + 1)
        assert r["p_lower"] == pytest.approx(bound if r["votes_top"] else 0.0, abs=1e-9)
        certified = r["p_lower"] > 0.5
        assert (r["predicted"] >= 0) == certified
        expected = r["sigma"] * norm.ppf(r["p_lower"]) if certified else 0.0
        assert r["radius"] == pytest.approx(expected, abs=1e-9)
    metadata = pq.read_schema(reference_run.folder / SETTING / "certificates.parquet").metadata
    assert {b"schema_version", b"config_hash", b"model_hash", b"precision", b"device"} <= set(
        metadata
    )


def test_cohen_logs_hold_the_certificates(reference_run: Finished) -> None:
    (rows,) = tables(reference_run.folder, ["certificates"])
    with (reference_run.folder / SETTING / "certificates" / "best.tsv").open() as file:
        logged = list(csv.DictReader(file, delimiter="\t"))
    best = [r for r in rows if r["variant"] == "best"]
    assert [int(r["idx"]) for r in logged] == [r["image_index"] for r in best]
    assert all(float(a["radius"]) <= b["radius"] for a, b in zip(logged, best, strict=True))


def test_published_is_the_first_trial_and_the_sweep_follows(reference_run: Finished) -> None:
    (trials,) = tables(reference_run.folder, ["trials"])
    assert [t["origin"] for t in trials] == ["published"] + 5 * ["label_consistency"] + 4 * [
        "search"
    ]
    assert trials[0]["sigma"] == 0.25
    assert trials[0]["w_mmd"] == 4.0
    assert all(t["state"] == "complete" for t in trials[:6])


def test_study_tells_pruned_trials_from_complete_ones(reference_run: Finished) -> None:
    (trials,) = tables(reference_run.folder, ["trials"])
    storage = f"sqlite:///{reference_run.folder / 'study.db'}"
    (name,) = optuna.get_all_study_names(storage)
    states = {
        t.number: t.state.name for t in optuna.load_study(study_name=name, storage=storage).trials
    }
    expected = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
    assert states == {t["number"]: expected[t["state"]] for t in trials}
    assert all((t["epochs"] == 8) == (t["state"] == "complete") for t in trials)


def test_best_is_no_worse_than_the_baselines_on_the_tuning_images(reference_run: Finished) -> None:
    score = {row["variant"]: row["tuning_objective"] for row in reference_run.summary}
    assert score["best"] >= score["published"]
    assert score["best"] >= score["label_consistency"]
    (confirmation,) = tables(reference_run.folder, ["confirmation"])
    assert score["best"] == max(row["confirmed_objective"] for row in confirmation)


def test_json_summary_is_the_last_line_of_standard_output(reference_run: Finished) -> None:
    table = pq.read_table(reference_run.folder / "summary.parquet").to_pylist()
    assert reference_run.summary == table
    assert [row["variant"] for row in table] == VARIANTS


def test_ray_chatter_stays_in_the_log(reference_run: Finished) -> None:
    assert "INFO" not in reference_run.out + reference_run.err
    assert "WARNING" not in reference_run.out + reference_run.err
    assert "\x1b" not in reference_run.out + reference_run.err
    assert "Ray" in (reference_run.folder / "ray.log").read_text()


def test_local_run_does_not_attach_to_a_foreign_cluster(
    reference_run: Finished, foreign_cluster: str
) -> None:
    log = (reference_run.folder / "ray.log").read_text()
    assert "Started a local Ray instance" in log
    assert foreign_cluster not in log


def test_tensorboard_shows_losses_and_hyperparameters(reference_run: Finished) -> None:
    folder = reference_run.folder / "tensorboard" / SETTING
    events = EventAccumulator(str(folder / "trial-00000")).Reload()
    assert {"loss/label_consistency", "loss/mmd", "objective"} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("loss/mmd")] == list(range(1, 9))
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    images = EventAccumulator(str(folder / "best")).Reload().Tags()["images"]
    assert any("denoised" in tag for tag in images)


def test_report_is_rebuilt_from_the_tables(reference_run: Finished, tmp_path: Path) -> None:
    report = reference_run.folder / "report.html"
    text = report.read_text()
    report.unlink()
    command = [sys.executable, "-m", "results.report", str(reference_run.folder)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    assert report.read_text() == text


def test_exported_classifier_certifies(reference_run: Finished, workplace: Workplace) -> None:
    (path,) = (workplace.folder / "cache" / "decrop").glob("digits-*.pt")
    folder = reference_run.folder / SETTING / "smoothed_classifier"
    model = SmoothedClassifier.load(folder, classifier=load_classifier(path))
    dataset = load_dataset("digits")
    certificates = [model.certify(image) for image in dataset.test.load(range(5))]
    right = [c.predicted == y for c, y in zip(certificates, dataset.test.labels[:5], strict=True)]
    assert sum(right) >= 4
    assert all(c.n == 2000 and c.sigma == model.config.sigma for c in certificates)
    assert model.predict(dataset.test.load([0])[0]) == dataset.test.labels[0]


def test_default_classifier_is_right_on_97_percent(
    reference_run: Finished, workplace: Workplace
) -> None:
    (path,) = (workplace.folder / "cache" / "decrop").glob("digits-*.pt")
    test = load_dataset("digits").test
    with torch.inference_mode():
        predicted = load_classifier(path)(test.load(range(len(test.labels)))).argmax(dim=1)
    assert (predicted == test.labels).float().mean() >= 0.97


def test_test_images_are_disjoint_from_the_shots(reference_run: Finished) -> None:
    manifest = json.loads((reference_run.folder / "manifest.json").read_text())
    setting = manifest["settings"][SETTING]
    train = load_dataset("digits").train
    labels = train.labels[setting["training_indices"] + setting["tuning_indices"]]
    assert torch.bincount(labels).tolist() == [10] * 10
    assert not set(setting["training_indices"]) & set(setting["tuning_indices"])
    (rows,) = tables(reference_run.folder, ["certificates"])
    assert {r["image_index"] for r in rows} == set(setting["test_indices"])


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
            query = "SELECT COUNT(*) FROM votes WHERE phase = 'estimate'"
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


def test_cluster_run_equals_the_reference(
    reference_run: Finished, cluster_environment: Workplace
) -> None:
    run = cluster_environment.run("--name=cluster", "--cluster", *TINY)
    assert finished_trials(run.folder) == finished_trials(reference_run.folder)
    ours, reference = (tables(f, ["certificates"])[0] for f in (run.folder, reference_run.folder))
    assert without_incidentals(ours) == without_incidentals(reference)


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


def kill_one_trial_worker(process: subprocess.Popen[str]) -> None:
    """Kill -9 the first worker that runs a trial, as the kernel does when memory runs out."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for worker in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if "Trainable" in " ".join(worker.cmdline()):
                    worker.kill()
                    return
        time.sleep(0.02)
    raise AssertionError("no worker ran a trial")


def test_more_trials_extend_a_finished_run_though_a_worker_dies(
    reference_run: Finished, workplace: Workplace
) -> None:
    shutil.copytree(reference_run.folder, workplace.folder / "extended")
    before = tables(reference_run.folder, ["trials"])[0]
    config = workplace.folder / "extended" / "config.yaml"
    config.write_text(config.read_text().replace("name: reference", "name: extended"))
    process = workplace.start("--name=extended", "--resume", "--trials=7", "--json")
    kill_one_trial_worker(process)
    out, err = process.communicate(timeout=110)
    assert process.returncode == 0, err
    run = Finished(workplace.folder / "extended", out, err)
    after = tables(run.folder, ["trials"])[0]
    assert after[: len(before)] == before
    assert [row["root"] for row in after[len(before) :]] == [10, 11]
    assert all(row["state"] != "failed" for row in after)
    assert [row["variant"] for row in run.summary] == VARIANTS


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


def test_damaged_vote_store_is_exit_code_four_and_can_be_mended(
    reference_run: Finished, workplace: Workplace
) -> None:
    folder = workplace.folder / "damaged"
    shutil.copytree(reference_run.folder, folder)
    config = folder / "config.yaml"
    config.write_text(config.read_text().replace("name: reference", "name: damaged"))
    (folder / SETTING / "votes.db").write_text("no database" * 1000)
    run = workplace.run("--name=damaged", "--resume", code=4)
    assert "--resume" in run.err.splitlines()[-1]
    assert "Traceback" not in run.err
    (folder / SETTING / "votes.db").unlink()
    workplace.run("--name=damaged", "--resume")
    ours, reference = (tables(f, ["certificates"])[0] for f in (folder, reference_run.folder))
    assert without_incidentals(ours) == without_incidentals(reference)


def test_resume_refuses_a_changed_setting(reference_run: Finished, workplace: Workplace) -> None:
    refused = workplace.run("--name=reference", "--resume", "--shots=5", code=2)
    assert "--shots" in refused.err
    assert refused.err.count("\n") == 1
    fewer = workplace.run("--name=reference", "--resume", "--trials=1", code=2)
    assert "--trials" in fewer.err
