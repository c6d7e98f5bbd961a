"""Runs on images as people have them: of any size, grey or not, with other things among them."""

import json
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import yaml
from PIL import Image

from tests.support.image_folders import picture
from tests.support.runs import ONE_WORKER, SMALLEST_SPACE, Launcher, ended

SETTING = "folder-10shot"
# Crops of different sizes and shapes become images of the same form.
FORM = ["--image-size=8", "--resize-size=10", "--resize-filter=bicubic", "--channels=1"]


def write_images(root: Path) -> None:
    """Dark and bright noise, some images one folder deeper, each of a size of its own."""
    for side, count in (("train", 14), ("test", 6)):
        for name, shift in (("dark", 0), ("bright", 128)):
            for number in range(count):
                image = picture("RGB" if number % 2 else "L", (9 + number, 20 - number), number)
                darkened: Image.Image = image.point(lambda value, s=shift: value // 2 + s)
                place = root / side / name / ("more" if number % 3 else "") / f"{number}.png"
                place.parent.mkdir(parents=True, exist_ok=True)
                darkened.save(place)
    (root / "train" / "dark" / "notes.txt").touch()
    (root / "train" / ".ipynb_checkpoints").mkdir()


def test_images_of_mixed_sizes_and_colours_go_from_pretraining_to_certificates(
    launcher: Launcher,
) -> None:
    root, classifier = launcher.folder / "images", launcher.folder / "c.pt"
    write_images(root)
    where = ["--dataset=folder", f"--data-dir={root}", *FORM]
    trained = launcher.start_module(
        "trainables.pretraining", *where, f"--out={classifier}", "--epochs=20", "--batch-size=8"
    )
    out, err = ended(trained)
    assert "folder: left out 1 hidden folder (.ipynb_checkpoints)" in err
    command = shlex.split(out.partition("continue with: ")[2])
    assert command[3:] == [
        *("--dataset", "folder", "--data-dir", str(root)),
        *FORM,
        *("--classifier", str(classifier)),
    ]
    short = [*ONE_WORKER, "--trials=1", "--set=epochs=2", "--confirm-folds=2"]
    short += ["--confirm-top=1", f"--space={SMALLEST_SPACE}"]
    planned = launcher.run(*command[3:], "--name=resized", *short, "--dry-run")
    run = launcher.run(*command[3:], "--name=resized", *short)
    told = [
        "left out 1 hidden folder (.ipynb_checkpoints)",
        "left out 1 file not named like images (.txt)",
        "made 20 images grey",
    ]
    for note in told:
        assert f"folder: {note}" in planned.out
        assert f"folder: {note}" in run.err
    manifest = json.loads((run.folder / "manifest.json").read_text())["settings"][SETTING]
    assert manifest["data_notes"] == told
    assert manifest["image_shape"] == [1, 8, 8]
    kept = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert (kept["image_size"], kept["resize_filter"], kept["channels"]) == (8, "bicubic", 1)
    assert "resized to 8 x 8 pixels" in (run.folder / "report.html").read_text()

    again = launcher.folder / "again"
    assert f"folder: {told[0]}" in launcher.certify(run.folder, "--out", again)
    columns = ["variant", "image_index", "predicted", "radius", "votes_top"]
    tables = [
        pq.read_table(folder / SETTING / "certificates.parquet", columns=columns).to_pylist()
        for folder in (run.folder, again)
    ]
    assert tables[0] == tables[1]
    assert len({row["image_index"] for row in tables[0]}) == 12
    launcher.certify("--verify", run.folder)
    changed = launcher.run("--name=resized", "--resume", "--image-size=9", code=2)
    assert "--image-size: the run to resume has 8, not 9" in changed.err
    export = run.folder / SETTING / "smoothed_classifier"
    smaller = [
        "--dataset=folder",
        f"--data-dir={root}",
        "--image-size=6",
        "--channels=1",
        "--certify-images=12",
    ]
    said = launcher.certify(export, *smaller, f"--classifier={classifier}", code=2)
    assert "takes images of 1 x 8 x 8" in said
