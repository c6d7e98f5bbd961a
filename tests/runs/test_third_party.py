"""A run with a trained classifier and images that this project did not make."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from tests.support.faces import CLASSES, EACH, TRAINING, make, write_folder
from tests.support.runs import ONE_WORKER, Launcher
from trainables.data.datasets import load_dataset
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing import SmoothedClassifier

SETTING = "folder-10shot"
# From -1 to 1, which the network was trained on.
NORMALISATION = ["--mean=0.5", "--std=0.5"]
SHORT = [*ONE_WORKER, "--trials=1", "--confirm-top=1", "--confirm-folds=2"]


@pytest.fixture
def described(tmp_path: Path) -> list[str]:
    """The flags that name images and classifier."""
    write_folder(tmp_path / "faces")
    data = f"--data-dir={tmp_path / 'faces'}"
    return ["--dataset=folder", data, "--classifier=tests.support.faces:make"]


def test_a_new_user_is_told_what_is_missing(described: list[str], launcher: Launcher) -> None:
    run = launcher.run("--dry-run", *described, *NORMALISATION)
    assert "right on 0.0% of 20 clean shots" in run.err
    assert "if that is so, pass --class-order other,face" in run.err


def test_a_trained_network_of_others_is_certified_exported_and_loaded(
    described: list[str], launcher: Launcher, tmp_path: Path
) -> None:
    ordered = f"--class-order={','.join(CLASSES)}"
    run = launcher.run("--name=faces", *described, *NORMALISATION, ordered, *SHORT, "--json")
    assert "right on 100.0% of 20 clean shots" in run.err
    manifest = json.loads((run.folder / "manifest.json").read_text())["settings"][SETTING]
    assert manifest["class_names"] == list(CLASSES)
    assert manifest["clean_accuracy"]["right"] == 20
    rows = pq.read_table(run.folder / SETTING / "certificates.parquet").to_pylist()
    bare = [row for row in rows if row["variant"] == "none"]
    # Faces are recognised under little noise, though the network never saw any.
    assert sum(row["predicted"] == row["label"] for row in bare) > len(bare) / 2
    assert "follow from their counts" in launcher.certify("--verify", run.folder)
    exported = run.folder / SETTING / "smoothed_classifier"
    classifier = BaseClassifier(make(), mean=(0.5,), std=(0.5,))
    deployed = SmoothedClassifier.load(exported, classifier=classifier)
    data = load_dataset("folder", tmp_path / "faces", class_order=CLASSES)
    assert len(data.test.labels) == 2 * (EACH - TRAINING)
    best = next(row for row in rows if row["variant"] == "best" and row["radius"] > 0)
    image = data.test.load([best["image_index"]])[0]
    with torch.no_grad():
        assert deployed.certify(image).predicted == best["predicted"]
