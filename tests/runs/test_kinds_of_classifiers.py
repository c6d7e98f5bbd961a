"""Every kind of classifier through search, confirmation, certification, export and load.

The runs share one Ray, which takes longer to start than a run takes.
"""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from results.store import read_metadata
from tests.support.brought import KINDS, images_of, write_images
from tests.support.runs import CERTIFIED, ONE_WORKER, SMALLEST_SPACE, Launcher
from trainables.errors import InputError
from trainables.smoothing import SmoothedClassifier
from trainables.weights.checkpoint import weights_hash
from trainables.weights.sources import ClassifierSpec, load_base_classifier

SETTING = "folder-5shot"
SHORT = [*ONE_WORKER, "--trials=1", "--set=epochs=2", "--shots=5", "--n=500"]
SHORT += ["--confirm-top=1", "--confirm-folds=2", f"--space={SMALLEST_SPACE}"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_of_any_kind_goes_all_the_way(
    kind: Callable[[Path], ClassifierSpec], cluster_launcher: Launcher, tmp_path: Path
) -> None:
    spec = kind(tmp_path)
    images = write_images(tmp_path / "images")
    arguments = [f"--classifier={spec.classifier}", "--dataset=folder", f"--data-dir={images}"]
    if spec.weights is not None:
        arguments.append(f"--weights={spec.weights}")
    name = f"kind-{kind.__name__}"
    run = cluster_launcher.run(f"--name={name}", "--cluster", "--json", *SHORT, *arguments)
    assert [row["variant"] for row in run.summary] == CERTIFIED
    table = run.folder / SETTING / "certificates.parquet"
    assert not any(row["state"] == "failed" for row in trials(run.folder))
    # Better than a guess, also where the noise leaves little of the images.
    rows = [row for row in pq.read_table(table).to_pylist() if row["variant"] == "none"]
    right = sum(row["predicted"] == row["label"] for row in rows)
    assert right > len(rows) / 3, rows
    folder = run.folder / SETTING / "smoothed_classifier"
    (image, *others), _ = images_of(2, seed=3)
    classifier = load_base_classifier(spec, torch.stack([image, *others]))
    exported = json.loads((folder / "config.json").read_text())
    assert exported["classifier_hash"] == weights_hash(classifier)
    assert read_metadata(table)["model_hash_none"] == weights_hash(classifier)
    deployed = SmoothedClassifier.load(folder, classifier=classifier, seed=0)
    proof = deployed.certify(image, n=100, n0=50)
    assert 0 < proof.n <= 100
    # Alone as well, unless only the user's own code can build the network.
    if exported["classifier_kind"] == "factory":
        with pytest.raises(InputError, match="load_base_classifier"):
            SmoothedClassifier.load(folder)
    else:
        assert SmoothedClassifier.load(folder, seed=0).certify(image, n=100, n0=50) == proof


def trials(run: Path) -> list[dict[str, object]]:
    return pq.read_table(run / SETTING / "trials.parquet").to_pylist()  # type: ignore[no-any-return]
