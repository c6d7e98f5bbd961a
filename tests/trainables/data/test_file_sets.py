"""GTSRB, EuroSAT and Tiny ImageNet in miniature, laid out as they are published."""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from tests.support.publisher import Server
from tests.support.refusal import refusal
from trainables.choices import FILE_SETS
from trainables.data.datasets import load_dataset
from trainables.data.file_sets import SETS
from trainables.data.form import ImageForm

SIZED = ImageForm(image_size=8, resize_mode="squash")
Files = Mapping[str, bytes]


def image(value: int, size: tuple[int, int] = (8, 8), kind: str = "PNG") -> bytes:
    """A file of one colour."""
    file = io.BytesIO()
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(file, kind)
    return file.getvalue()


def gtsrb() -> dict[str, bytes]:
    """Two classes with three images each of different sizes, and a list of two test images."""
    files = {
        f"GTSRB/Training/{label:05}/{number:05}.ppm": image(
            100 * label + number, (6 + number, 9), "PPM"
        )
        for label in range(2)
        for number in range(3)
    }
    files["GTSRB/Training/00000/GT-00000.csv"] = b"Filename;ClassId\n"
    for number in range(2):
        files[f"GTSRB/Final_Test/Images/{number:05}.ppm"] = image(200 + number, (7, 7), "PPM")
    header = "Filename;Width;Height;Roi.X1;Roi.Y1;Roi.X2;Roi.Y2;ClassId\n"
    rows = "00000.ppm;7;7;0;0;6;6;1\n00001.ppm;7;7;0;0;6;6;0\n"
    files["GT-final_test.csv"] = (header + rows).encode()
    return files


def tiny_imagenet() -> dict[str, bytes]:
    files = {
        f"train/{name}/images/{name}_{number}.JPEG": image(50 * number, kind="JPEG")
        for name in ("n01", "n02")
        for number in range(3)
    }
    files["train/n01/n01_boxes.txt"] = b"n01_0.JPEG\t0\t0\t1\t1\n"
    for number in range(2):
        files[f"val/images/val_{number}.JPEG"] = image(200 + number, kind="JPEG")
    files["val/val_annotations.txt"] = b"val_0.JPEG\tn02\t0\t0\t7\t7\nval_1.JPEG\tn01\t0\t0\t7\t7\n"
    return files


def eurosat() -> dict[str, bytes]:
    return {
        f"{name}/{name}_{number}.jpg": image(40 * number, kind="JPEG")
        for name in ("Forest", "River")
        for number in range(5)
    }


CONTENTS = {"gtsrb": gtsrb, "tiny_imagenet": tiny_imagenet, "eurosat": eurosat}


def write(name: str, folder: Path) -> None:
    for file, content in CONTENTS[name]().items():
        path = folder / SETS[name].place / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def packed(files: Files) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return archive.getvalue()


def test_the_names_known_beforehand_are_those_that_can_be_read() -> None:
    assert tuple(SETS) == FILE_SETS


@pytest.mark.parametrize(
    ("name", "classes", "trained", "tested"),
    [
        ("gtsrb", ("00000", "00001"), [0, 0, 0, 1, 1, 1], [1, 0]),
        ("tiny_imagenet", ("n01", "n02"), [0, 0, 0, 1, 1, 1], [1, 0]),
        ("eurosat", ("Forest", "River"), [0] * 4 + [1] * 4, [0, 1]),
    ],
)
def test_images_have_the_labels_that_their_publishers_gave(
    name: str, classes: tuple[str, ...], trained: list[int], tested: list[int], tmp_path: Path
) -> None:
    write(name, tmp_path)
    dataset = load_dataset(name, tmp_path, form=SIZED)
    assert (dataset.name, dataset.classes) == (name, classes)
    assert dataset.train.labels.tolist() == trained
    assert dataset.test.labels.tolist() == tested
    pixels = dataset.test.load([0, 1])
    assert pixels.shape == (2, 3, 8, 8)
    if name != "eurosat":
        assert (pixels[:, 0, 4, 4] * 255).round().tolist() == [200, 201]


def test_images_of_different_sizes_need_one(tmp_path: Path) -> None:
    write("gtsrb", tmp_path)
    assert "pass `image_size`" in refusal(lambda: load_dataset("gtsrb", tmp_path))


@pytest.mark.parametrize("name", FILE_SETS)
def test_what_is_missing_is_named(name: str, tmp_path: Path) -> None:
    message = refusal(lambda: load_dataset(name, tmp_path))
    assert message.startswith(f"dataset: {name} is not in {tmp_path}; pass `download`")


@pytest.mark.parametrize(
    ("name", "file", "content"),
    [
        ("gtsrb", "GT-final_test.csv", None),
        ("gtsrb", "GT-final_test.csv", b"Filename;ClassId\n"),
        ("gtsrb", "GT-final_test.csv", b"Filename;ClassId\n00000.ppm;7\n"),
        ("gtsrb", "GT-final_test.csv", b"a;b\n1;2\n"),
        ("gtsrb", "GTSRB/Final_Test/Images/00001.ppm", None),
        ("tiny_imagenet", "val/val_annotations.txt", None),
        ("tiny_imagenet", "val/val_annotations.txt", b"val_0.JPEG\n"),
        ("tiny_imagenet", "val/val_annotations.txt", b"\xff\xfe"),
        ("tiny_imagenet", "val/images/val_0.JPEG", b""),
    ],
)
def test_what_is_damaged_is_refused(
    name: str, file: str, content: bytes | None, tmp_path: Path
) -> None:
    write(name, tmp_path)
    path = tmp_path / SETS[name].place / file
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    message = refusal(lambda: load_dataset(name, tmp_path, form=SIZED))
    assert str(tmp_path) in message


def test_eurosat_is_fetched_whole_or_not_at_all(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = packed({f"2750/{name}": content for name, content in eurosat().items()})
    place = tmp_path / "data"

    def fetched_from(url: str, checksum: str) -> None:
        def download(self: torchvision.datasets.EuroSAT) -> None:
            Path(self._base_folder).mkdir()
            torchvision.datasets.utils.download_and_extract_archive(
                url, download_root=self._base_folder, md5=checksum
            )

        monkeypatch.setattr(torchvision.datasets.EuroSAT, "download", download)

    (server.folder / "EuroSAT.zip").write_bytes(data)
    fetched_from(server.url + "EuroSAT.zip", "0" * 32)
    assert "could not be fetched" in refusal(lambda: load_dataset("eurosat", place, download=True))
    assert list(place.iterdir()) == []
    fetched_from(server.url + "EuroSAT.zip", hashlib.md5(data).hexdigest())
    dataset = load_dataset("eurosat", place, download=True)
    assert dataset.train.load([0]).shape == (1, 3, 8, 8)
    assert [path.name for path in place.iterdir()] == ["eurosat"]


def test_what_nobody_offers_with_a_checksum_is_not_fetched(tmp_path: Path) -> None:
    message = refusal(lambda: load_dataset("tiny_imagenet", tmp_path, download=True))
    assert message.startswith("download: tiny_imagenet is not fetched; unpack it such that")
