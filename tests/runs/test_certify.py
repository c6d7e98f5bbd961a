"""The command line python -m tuning.certify."""

import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from results.recorded import VOTES_FORMAT
from results.schema import CERTIFICATES
from results.store import read_metadata, write_table
from tests.support.bounds import expected_bounds
from tests.support.runs import CERTIFIED, SETTING, Finished, Launcher, without_incidentals
from trainables.acceleration.voting import prepared
from trainables.data.datasets import load_dataset
from trainables.models.architectures import DigitsCNN
from trainables.smoothing.counting import total_votes
from trainables.smoothing.noise import Noise, derive_seed, plan_blocks
from trainables.weights.checkpoint import load_classifier, save_classifier
from trainables.weights.denoiser_file import denoiser_bytes, load_denoiser, trained_sigma
from tuning.certify import main

Capture = pytest.CaptureFixture[str]


def refusal(capsys: Capture, *arguments: str | Path) -> str:
    """The one line that the command ends with, before it starts anything."""
    assert main([*map(str, arguments)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    return line


def certificates(folder: Path) -> list[dict[str, Any]]:
    return without_incidentals(pq.read_table(folder / "certificates.parquet").to_pylist())


def test_the_same_numbers_give_the_same_certificates_and_others_give_others(
    reference_run: Finished, launcher: Launcher, tmp_path: Path, capsys: Capture
) -> None:
    launcher.certify(reference_run.folder, "--out", tmp_path / "same", "--concurrency=2")
    assert certificates(tmp_path / "same" / SETTING) == certificates(reference_run.folder / SETTING)
    for name in ("config.yaml", "manifest.json", "report.html", "summary.parquet"):
        assert (tmp_path / "same" / name).is_file()

    out = tmp_path / "other"
    radii = ("--procedure=adaptive", "--radii=0,0.25")
    arguments = (reference_run.folder, "--out", out, *radii, "--certify-images=4")
    said = launcher.certify(*arguments)
    rows = certificates(out / SETTING)
    assert {row["procedure"] for row in rows} == {"adaptive"}
    assert {row["radius"] for row in rows} <= {0.0, 0.25}
    assert len(rows) == 4 * 4
    assert str(out / "report.html") in said
    # Nothing is left to do, and the same is said again.
    assert launcher.certify(*arguments).splitlines()[-1] == said.splitlines()[-1]
    assert "different certificates" in refusal(capsys, *arguments, "--n=500")
    said = refusal(capsys, reference_run.folder, "--dataset=mnist")
    assert "--dataset: the run was on digits-10shot, not on mnist-10shot" in said


def test_an_export_is_certified_without_its_run(
    reference_run: Finished, launcher: Launcher, tmp_path: Path, capsys: Capture
) -> None:
    export = tmp_path / "export"
    shutil.copytree(reference_run.folder / SETTING / "smoothed_classifier", export)
    launcher.certify(export, "--certify-images=3", "--n=300", "--out", tmp_path / "out")
    rows = certificates(tmp_path / "out" / "digits")
    known = json.loads((export / "config.json").read_text())
    sigma = known["sigma"]
    (summary,) = pq.read_table(tmp_path / "out" / "summary.parquet").to_pylist()
    assert (summary["origin"], summary["trial"]) == (known["origin"], None)
    assert main(["--verify", str(tmp_path / "out")]) == 0
    assert [(row["variant"], row["sigma"]) for row in rows] == [("best", sigma)] * 3

    said = refusal(capsys, export, "--sigma=0.9", "--out", tmp_path / "no")
    assert f"--sigma: {export} was trained for {sigma:g}" in said
    foreign = tmp_path / "foreign.pt"
    save_classifier(foreign, "digits_cnn", DigitsCNN())
    arguments = (export, f"--classifier={foreign}", "--certify-images=3", "--out", tmp_path / "no")
    said = launcher.certify(*arguments, code=2)
    assert "error: --classifier: the export was made for the classifier" in said
    assert known["classifier_hash"][:12] in said
    assert not (tmp_path / "no").exists()


def test_a_denoiser_file_of_a_run_knows_its_sigma_and_its_votes_their_version(
    reference_run: Finished, launcher: Launcher, tmp_path: Path, capsys: Capture
) -> None:
    run = reference_run.folder / SETTING
    sigma = json.loads((run / "smoothed_classifier" / "config.json").read_text())["sigma"]
    file = tmp_path / "any.safetensors"
    shutil.copy(run / "denoisers" / "best.safetensors", file)
    denoisers = [*run.glob("denoisers/*.safetensors"), *run.rglob("denoiser.safetensors")]
    assert len(denoisers) >= len(CERTIFIED)
    assert all(trained_sigma(path.read_bytes()) for path in denoisers)
    said = refusal(capsys, "--denoiser", file, "--sigma=0.9", "--out", tmp_path / "no")
    assert f"--sigma: {file} was trained for {sigma:g}; leave the flag out, or pass a" in said
    assert not (tmp_path / "no").exists()

    out = tmp_path / "out"
    arguments = ("--denoiser", file, "--certify-images=2", "--n=200", "--out", out)
    launcher.certify(*arguments)
    before = certificates(out / "digits")
    assert {row["sigma"] for row in before} == {sigma}

    path = out / "digits" / "votes.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 0")
    said = launcher.certify(*arguments, code=2)
    (line,) = (line for line in said.splitlines() if line.startswith("error: "))
    assert line.startswith(f"error: --out: {path} ")
    assert "format 0" in line
    assert f"format {VOTES_FORMAT}" in line
    path.unlink()
    launcher.certify(*arguments)
    assert certificates(out / "digits") == before


def test_a_denoiser_file_that_says_nothing_is_certified_at_any_sigma(
    reference_run: Finished, launcher: Launcher, tmp_path: Path, capsys: Capture
) -> None:
    file = tmp_path / "any.safetensors"
    trained = reference_run.folder / SETTING / "denoisers" / "best.safetensors"
    file.write_bytes(denoiser_bytes(load_denoiser(trained.read_bytes())))
    arguments = ("--denoiser", file, "--certify-images=2", "--n=200", "--out", tmp_path / "out")
    assert "--sigma: is missing; pass the noise" in refusal(capsys, *arguments)
    launcher.certify(*arguments, "--sigma=0.9")
    before = certificates(tmp_path / "out" / "digits")
    assert {row["sigma"] for row in before} == {0.9}
    # The configuration is the same; what is certified is not.
    said = launcher.certify(*arguments, "--sigma=0.5", code=2)
    assert f"error: --out: {tmp_path / 'out'} holds certificates of models that differ" in said
    assert certificates(tmp_path / "out" / "digits") == before


def test_quantised_noise_makes_certificates_of_its_own_that_are_verified(
    reference_run: Finished, launcher: Launcher, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "quantised"
    arguments = (reference_run.folder, "--certify-images=6", "--out", out)
    launcher.certify(*arguments, "--noise=quantised")
    table = pq.read_table(out / SETTING / "certificates.parquet")
    named = {k: table.schema.metadata[k.encode()] for k in ("noise", "pixel_steps", "pixels")}
    assert named == {"noise": b"quantised", "pixel_steps": b"16", "pixels": b"64"}
    gaussian = certificates(reference_run.folder / SETTING)
    assert [row["votes_top"] for row in table.to_pylist()] != [
        row["votes_top"] for row in gaussian if row["image_index"] in (0, 83, 166, 250, 333, 416)
    ]
    assert main(["--verify", str(out)]) == 0
    rows = table.to_pylist()
    for row in rows:
        expected = expected_bounds(row, 1e-12)
        assert (row["p_lower"], row["p_upper"]) == pytest.approx(expected, abs=1e-13)
        # As if the sampler and the arithmetic were perfect.
        row["p_lower"] += 1e-12
    path = out / SETTING / "certificates.parquet"
    write_table(path, rows, CERTIFICATES, read_metadata(path))
    assert main(["--verify", str(out)]) == 1
    assert "the bound" in capsys.readouterr().out
    assert "different certificates" in refusal(capsys, *arguments, "--noise=gaussian")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for a few dozen certificates."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_ends_in_one_line_and_the_same_command_goes_on_to_the_same_certificates(
    launcher: Launcher, trained_classifier: Path, small_disk: Path
) -> None:
    # A classifier alone, without any denoiser.
    arguments = ["--sigma=0.2", "--certify-images=100", "--n=3000", "--procedure=fixed"]
    arguments += ["--precision=float32", f"--out={small_disk}/out"]
    said = launcher.certify(*arguments, code=4)
    assert "error: the run stopped: database or disk is full; fix that, then continue with" in said
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    launcher.certify(*arguments)
    rows = certificates(small_disk / "out" / "digits")
    assert [(row["variant"], row["n"], row["votes"]) for row in rows] == [
        ("none", 3000, 3100)
    ] * 100
    # As anybody would count them, without Ray.
    images, shape = load_dataset("digits").test, (1, 8, 8)
    model = prepared(load_classifier(trained_classifier), shape, "float32")
    seed = derive_seed(0, "digits", "certify", "fixed", 100, 3000, 0.001)
    for row in rows[::10]:
        image, key = images.load([row["image_index"]])[0], (row["image_index"], 0.2)
        votes = total_votes(model, image, Noise(0.2), plan_blocks(3000, seed, "estimate", *key))
        select = total_votes(model, image, Noise(0.2), plan_blocks(100, seed, "select", *key))
        assert row["votes_top"] == votes[select.index(max(select))]
