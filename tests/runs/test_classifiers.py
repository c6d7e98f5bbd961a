"""Runs with classifiers that are not built in."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from results.store import read_metadata
from tests.support.programs import export
from tests.support.runs import (
    CERTIFIED,
    HANGING,
    ONE_WORKER,
    SETTING,
    Finished,
    Launcher,
    ended,
    tables,
)
from trainables.black_box.endpoint import HttpClassifier
from trainables.data.datasets import load_dataset
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.probes import QUERIES
from trainables.weights.checkpoint import load_classifier
from trainables.weights.sources import ClassifierSpec, load_base_classifier

# Enough for every stage to run; `none` is certified as in the reference run.
SHORT = [*ONE_WORKER, "--trials=1", "--set=epochs=2"]


@contextmanager
def serving(checkpoint: Path, launcher: Launcher, port: int = 0) -> Iterator[tuple[str, int]]:
    """The classifier behind HTTP, answering with labels only: its URL and its process."""
    arguments = [str(checkpoint), f"--port={port}", "--labels-only", "--threads=1", "--quiet"]
    unbuffered = launcher.knowing(PYTHONUNBUFFERED="1")
    process = unbuffered.start_module("trainables.black_box.serve", *arguments)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().split()[-1], process.pid
    finally:
        process.kill()
        process.communicate(timeout=HANGING)


def certificates(run: Finished, variant: str) -> list[tuple[object, ...]]:
    (rows,) = tables(run.folder, ["certificates"])
    columns = ("image_index", "predicted", "radius", "votes_top", "sigma")
    return [tuple(row[c] for c in columns) for row in rows if row["variant"] == variant]


def test_black_box_survives_its_endpoint_and_is_certified_by_its_answers_within_the_budget(
    trained_classifier: Path, reference_run: Finished, launcher: Launcher
) -> None:
    arguments = ["--name=endpoint", "--access=black-box", "--query-budget=900", *SHORT]
    with serving(trained_classifier, launcher) as (url, server):
        run = launcher.start(*arguments, f"--classifier={url}")
        assert run.stderr is not None
        while "confirmation votes" not in run.stderr.readline():
            assert run.poll() is None
        os.kill(server, signal.SIGKILL)
        _, rest = ended(run, code=4)
    (line,) = [text for text in rest.splitlines() if text.startswith("error")]
    assert url in line
    assert "--resume" in line
    with serving(trained_classifier, launcher, port=int(url.rstrip("/").rsplit(":", 1)[1])):
        finished = launcher.run("--name=endpoint", "--resume")
        exported = finished.folder / SETTING / "smoothed_classifier"
        deployed = SmoothedClassifier.load(exported, classifier=HttpClassifier.connect(url))
        assert 0 < deployed.certify(load_dataset("digits").test.load([0])[0], n=200).n <= 200
    # The real classifier votes, not its surrogate: exactly as it does without a socket between.
    assert certificates(finished, "none") == certificates(reference_run, "none")
    manifest = json.loads((finished.folder / "manifest.json").read_text())
    queries = manifest["settings"][SETTING]["queries"]
    assert 500 < queries["training"] <= 900
    assert 0.3 < queries["surrogate_agreement"] <= 1
    # Two variants can be one model, which is then asked once.
    table = finished.folder / SETTING / "certificates.parquet"
    hashes, cast = read_metadata(table), {}
    for row in pq.read_table(table).to_pylist():
        cast[hashes[f"model_hash_{row['variant']}"], row["image_index"]] = row["votes"]
    assert queries["certification"] == sum(cast.values())
    assert queries["export"] == QUERIES
    assert "Black box" in (finished.folder / "report.html").read_text()


def test_factory_with_weights_trains_from_a_denoiser_of_another_run_in_two_settings(
    trained_classifier: Path, reference_run: Finished, launcher: Launcher
) -> None:
    weights = load_classifier(trained_classifier).network.state_dict()
    file = launcher.folder / "weights.pt"
    torch.save({f"inner.{name}": tensor for name, tensor in weights.items()}, file)
    initial = reference_run.folder / SETTING / "smoothed_classifier"
    arguments = ["--name=factory", "--classifier=tests.support.foreign:make", f"--weights={file}"]
    # A step so small that the weights stay what they were.
    still = ["--set=learning_rate=1e-12", "--set=weight_decay=0", "--set=ema_decay=0"]
    grid = ["--shots=5,10", "--trials=3", "--transfer=1"]
    run = launcher.run(*arguments, f"--init-denoiser={initial}", *SHORT, *still, *grid)
    summary = pq.read_table(run.folder / "summary.parquet").to_pylist()
    settings = ["digits-5shot", "digits-10shot"]
    assert [row["setting"] for row in summary] == [s for s in settings for _ in CERTIFIED]
    # The second setting starts from what the first one found.
    of = {s: pq.read_table(run.folder / s / "trials.parquet").to_pylist() for s in settings}
    searched = [row for row in of["digits-5shot"] if row["origin"] in ("start", "search")]
    best = max((r for r in searched if r["state"] == "complete"), key=lambda r: r["objective"])
    (taken,) = [row for row in of["digits-10shot"] if row["origin"] == "transferred"]
    assert (taken["sigma"], taken["mix"]) == (best["sigma"], best["mix"])
    assert certificates(run, "none") == certificates(reference_run, "none")
    before = load_file(initial / "denoiser.safetensors")
    after = load_file(run.folder / SETTING / "smoothed_classifier" / "denoiser.safetensors")
    trained = [name for name in before if name.endswith("weight")]
    assert trained
    assert all(torch.allclose(before[name], after[name], atol=1e-6) for name in trained)


def test_an_exported_program_is_searched_confirmed_certified_and_deployed(
    trained_classifier: Path, reference_run: Finished, launcher: Launcher
) -> None:
    images = load_dataset("digits").test.load(range(2))
    classifier = load_classifier(trained_classifier)
    program = export(launcher.folder / "program.pt2", classifier, images)
    run = launcher.run("--name=program", f"--classifier={program}", *SHORT)
    # The same votes up to rounding, because batch norm is not folded in a program.
    for found, known in zip(
        certificates(run, "none"), certificates(reference_run, "none"), strict=True
    ):
        assert found[:2] == known[:2]
        assert abs(found[3] - known[3]) <= 5  # type: ignore[operator]
    exported = run.folder / SETTING / "smoothed_classifier"
    loaded = load_base_classifier(ClassifierSpec(str(program)), images)
    assert SmoothedClassifier.load(exported, classifier=loaded).certify(images[0], n=200).n == 200
