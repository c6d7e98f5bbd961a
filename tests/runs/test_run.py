import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import optuna
import pyarrow.parquet as pq
import pytest
import torch
from optuna_dashboard import get_note
from scipy.stats import norm
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from results.sentences import sentence
from tests.support.bounds import expected_bounds
from tests.support.runs import CERTIFIED, REPO, SETTING, VARIANTS, Finished, tables
from trainables.data.datasets import load_dataset
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing import SmoothedClassifier
from trainables.weights.checkpoint import load_classifier
from tuning.certify import main as certify
from tuning.launch import main as launch
from tuning.study.database import sqlite_url


def test_run_leaves_every_promised_file(reference_run: Finished) -> None:
    for name in ("config.yaml", "manifest.json", "study.db", "summary.parquet", "report.html"):
        assert (reference_run.folder / name).is_file()
    for name in (
        "trials.parquet",
        "insight.json",
        "examples.npz",
        "best.yaml",
        "confirmation.parquet",
        "certificates.parquet",
        "classes.parquet",
        "curves.png",
        "smoothed_classifier/classifier.safetensors",
        "smoothed_classifier/denoiser.safetensors",
        "smoothed_classifier/probes.safetensors",
        "smoothed_classifier/config.json",
        "smoothed_classifier/README.md",
        *(f"certificates/{variant}.tsv" for variant in VARIANTS),
    ):
        assert (reference_run.folder / SETTING / name).is_file()
    assert not (reference_run.folder / "tune").exists()


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
        lower, upper = expected_bounds(r)
        assert (r["p_lower"], r["p_upper"]) == pytest.approx((lower, upper), abs=1e-9)
        assert (r["predicted"] >= 0) == (lower > upper)
        proved = r["sigma"] / 2 * (norm.ppf(lower) - norm.ppf(upper))
        assert r["radius"] == pytest.approx(max(0.0, proved), abs=1e-9)
    # Some rest on bounds on two classes, and prove more than one class does.
    assert any(r["p_upper"] < 1 - r["p_lower"] - 1e-3 for r in rows)
    metadata = pq.read_schema(reference_run.folder / SETTING / "certificates.parquet").metadata
    assert {(r["precision"].encode(), r["device"].encode()) for r in rows} == {
        (metadata[b"precision"], metadata[b"device"])
    }
    assert metadata[b"precision"] in {b"float32", b"bfloat16"}
    assert metadata[b"device"] == b"cpu"
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
    assert [t["origin"] for t in trials] == [
        "published",
        *2 * ["published_sigma"],
        *2 * ["label_consistency"],
        *2 * ["mse"],
        "start",
        *3 * ["search"],
    ]
    assert trials[0]["sigma"] == 0.25
    assert trials[0]["w_mmd"] == 4.0
    assert all(t["state"] == "complete" for t in trials[:7])


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


def test_what_is_certified_was_confirmed(reference_run: Finished) -> None:
    (confirmation,) = tables(reference_run.folder, ["confirmation"])
    origins = [row["origin"] for row in confirmation if row["origin"] != "published_sigma"]
    assert origins[:3] == ["published", "label_consistency", "mse"]
    # Three folds of a fifth of the hundred shots.
    assert {(row["folds"], row["images"]) for row in confirmation} == {(3, 60)}
    confirmed = {row["number"]: row for row in confirmation}
    highest = max(row["confirmed_objective"] for row in confirmation)
    for row in reference_run.summary:
        if row["variant"] != "none":
            chosen = confirmed[row["trial"]]
            assert chosen["selected"]
            assert row["variant"] in chosen["variant"]
            assert row["tuning_objective"] == chosen["confirmed_objective"]
            gap = chosen["search_objective"] - chosen["unseen_objective"]
            assert chosen["optimism_gap"] == pytest.approx(gap)
        if row["variant"] == "best":
            assert row["tuning_objective"] >= highest - 3 * chosen["standard_error"]


def test_who_won_is_said_everywhere(reference_run: Finished) -> None:
    best = reference_run.summary[-1]
    (trials,) = tables(reference_run.folder, ["trials"])
    origin = next(t["origin"] for t in trials if t["number"] == best["trial"])
    assert [row["origin"] for row in reference_run.summary[:3]] == VARIANTS[:3]
    export = reference_run.folder / SETTING / "smoothed_classifier" / "config.json"
    exported = json.loads(export.read_text())
    (verdict,) = json.loads(reference_run.out.splitlines()[-1])["verdicts"]
    for said in (best, exported, verdict):
        assert (said["origin"], said["trial"]) == (origin, best["trial"])
    assert f"{SETTING}: {sentence(verdict['headline'])}" in " ".join(reference_run.out.split())
    assert sentence(verdict["statement"]) in " ".join(reference_run.out.split())
    assert verdict["statement"][1:] in (reference_run.folder / "report.html").read_text()


def test_what_is_tied_with_the_winner_is_marked(reference_run: Finished) -> None:
    (confirmation,) = tables(reference_run.folder, ["confirmation"])
    tied = {row["number"] for row in confirmation if row["tied"]}
    highest = max(confirmation, key=lambda row: row["confirmed_objective"])
    assert {highest["number"], reference_run.summary[-1]["trial"]} <= tied


def test_json_summary_is_the_last_line_of_standard_output(reference_run: Finished) -> None:
    table = pq.read_table(reference_run.folder / "summary.parquet").to_pylist()
    assert reference_run.summary == table
    assert [row["variant"] for row in table] == CERTIFIED


def test_ray_chatter_stays_in_the_log(reference_run: Finished) -> None:
    assert "INFO" not in reference_run.out + reference_run.err
    assert "WARNING" not in reference_run.out + reference_run.err
    assert "\x1b" not in reference_run.out + reference_run.err
    assert "Ray" in (reference_run.folder / "ray.log").read_text()


def test_local_run_does_not_attach_to_the_cluster_of_the_environment(
    reference_run: Finished,
) -> None:
    assert "Started a local Ray instance" in (reference_run.folder / "ray.log").read_text()


def test_tensorboard_shows_losses_and_hyperparameters(reference_run: Finished) -> None:
    folder = reference_run.folder / "tensorboard" / SETTING
    events = EventAccumulator(str(folder / "000 published")).Reload()
    scores = {"evaluation/objective", "optimiser/learning rate"}
    assert {"loss/label_consistency", "loss/mmd", *scores} <= set(events.Tags()["scalars"])
    assert [e.step for e in events.Scalars("loss/mmd")] == list(range(1, 9))
    assert "_hparams_/session_start_info" in events.PluginTagToContent("hparams")
    for run in ("best so far", "winner"):
        images = EventAccumulator(str(folder / run)).Reload().Tags()["images"]
        assert any("denoised" in tag for tag in images)
    best = EventAccumulator(str(folder / "certified best")).Reload()
    (score,) = best.Scalars("certified/score")
    assert score.value == pytest.approx(reference_run.summary[-1]["score"])


def test_the_study_has_a_note_with_the_verdict(reference_run: Finished) -> None:
    database = sqlite_url(reference_run.folder / "study.db")
    note = get_note(optuna.load_study(study_name=SETTING, storage=database))
    assert "test images" in note or "answering always the same" in note


def test_report_is_rebuilt_from_the_tables(reference_run: Finished, tmp_path: Path) -> None:
    report = reference_run.folder / "report.html"
    text = report.read_text()
    report.unlink()
    command = [sys.executable, "-m", "results.report", str(reference_run.folder)]
    subprocess.run(command, cwd=REPO, check=True, capture_output=True)
    assert report.read_text() == text


def test_exported_classifier_certifies(reference_run: Finished, trained_classifier: Path) -> None:
    folder = reference_run.folder / SETTING / "smoothed_classifier"
    classifier = load_classifier(trained_classifier)
    with pytest.raises(InputError, match="pass the classifier that the run used"):
        SmoothedClassifier.load(folder, classifier=BaseClassifier(DigitsCNN()))
    model = SmoothedClassifier.load(folder, classifier=classifier, seed=0)
    dataset = load_dataset("digits")
    images, labels = dataset.test.load(range(5)), dataset.test.labels[:5].tolist()
    certificates = [model.certify(image) for image in images]
    right = [c.predicted == label for c, label in zip(certificates, labels, strict=True)]
    assert sum(right) >= 4
    assert all(c.votes <= 2050 and c.sigma == model.config.sigma for c in certificates)
    assert {c.procedure for c in certificates} == {"tolerance"}
    predicted = [model.predict(image) for image in images]
    assert sum(p == label for p, label in zip(predicted, labels, strict=True)) >= 3


def test_default_classifier_is_right_on_97_percent(trained_classifier: Path) -> None:
    test = load_dataset("digits").test
    classifier = load_classifier(trained_classifier)
    with torch.inference_mode():
        predicted = classifier(test.load(range(len(test.labels)))).argmax(dim=1)
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


def test_a_run_is_verified_and_a_changed_certificate_is_not(
    reference_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert certify(["--verify", str(reference_run.folder)]) == 0
    assert capsys.readouterr().out.startswith("60 certificates of")
    changed = tmp_path / "changed"
    shutil.copytree(reference_run.folder, changed, ignore=shutil.ignore_patterns("tensorboard"))
    log = changed / SETTING / "certificates" / "best.tsv"
    log.write_text(log.read_text().replace("\t0.", "\t5.", 1))
    assert certify(["--verify", str(changed)]) == 1
    said = capsys.readouterr()
    assert ": the log: radius is 5." in said.out
    assert said.err.startswith("error: 2 differences in 60 certificates")


@pytest.mark.parametrize("flag", ["--shots=5", "--noise=quantised", "--trials=1"])
def test_resume_refuses_a_changed_setting(
    reference_run: Finished, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    folder = reference_run.folder
    assert launch([f"--out={folder.parent}", f"--name={folder.name}", "--resume", flag]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert flag.partition("=")[0] in line
