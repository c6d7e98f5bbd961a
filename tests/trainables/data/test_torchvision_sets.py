import gzip
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from tests.support.publisher import (
    CIFAR_CLASSES,
    Published,
    Server,
    Side,
    files,
    idx,
    publish,
)
from tests.support.refusal import refusal
from trainables.data.datasets import TensorImages, load_dataset

STL10_CLASSES = (
    *("airplane", "bird", "car", "cat", "deer"),
    *("dog", "horse", "monkey", "ship", "truck"),
)
REPO_ROOT = Path(__file__).resolve().parents[3]
MNIST = REPO_ROOT.parent / "shared" / "data" / "mnist" / "MNIST" / "raw"


def assert_holds(images: Any, side: Side) -> None:
    loaded = images.load(range(len(side.labels)))
    assert loaded.dtype == torch.float32
    assert np.array_equal((loaded * 255).numpy(), side.pixels)
    assert images.labels.dtype == torch.int64
    assert np.array_equal(images.labels.numpy(), side.labels)


def test_a_fetched_data_set_holds_the_published_pixels_and_labels(
    published: Published, data: Path
) -> None:
    for dataset in (
        load_dataset(published.name, data, download=True),
        load_dataset(published.name, data),
    ):
        assert dataset.name == published.name
        assert_holds(dataset.train, published.train)
        assert_holds(dataset.test, published.test)


def test_images_stay_bytes_until_they_are_asked_for(published: Published, data: Path) -> None:
    dataset = load_dataset(published.name, data, download=True)
    assert isinstance(dataset.train, TensorImages)
    assert dataset.train.tensor.dtype == torch.uint8
    side = 96 if published.name == "stl10" else 32
    shape = (1, 28, 28) if "mnist" in published.name else (3, side, side)
    assert dataset.train.load([3, 1]).shape == (2, *shape)


def test_classes_have_the_names_that_their_publishers_gave(
    published: Published, data: Path
) -> None:
    expected = {
        "mnist": tuple(torchvision.datasets.MNIST.classes),
        "fashion_mnist": tuple(torchvision.datasets.FashionMNIST.classes),
        "svhn": tuple("0123456789"),
        "stl10": STL10_CLASSES,
        **CIFAR_CLASSES,
    }
    assert load_dataset(published.name, data, download=True).classes == expected[published.name]


def test_the_labels_of_svhn_are_the_digits(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("svhn", server.folder, server.url, monkeypatch)
    labels = load_dataset("svhn", data, download=True).train.labels
    assert sorted(set(labels.tolist())) == list(range(10))


def test_images_of_stl10_without_labels_are_not_kept(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("stl10", server.folder, server.url, monkeypatch)
    load_dataset("stl10", data, download=True)
    assert "unlabeled_X.bin" not in [file.name for file in files(data)]


@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_file_is_refused_and_can_be_fetched_again(
    published: Published, data: Path, which: int
) -> None:
    load_dataset(published.name, data, download=True)
    file = files(data)[which]
    file.write_bytes(file.read_bytes()[:-1])
    message = refusal(lambda: load_dataset(published.name, data))
    assert message.startswith(f"dataset: {published.name} in {data} is damaged or cannot be read")
    assert "pass `download`" in message
    assert_holds(load_dataset(published.name, data, download=True).train, published.train)
    assert_holds(load_dataset(published.name, data).test, published.test)


@pytest.mark.parametrize("which", [0, -1])
def test_a_missing_file_is_named_and_can_be_fetched(
    published: Published, data: Path, which: int
) -> None:
    load_dataset(published.name, data, download=True)
    file = files(data)[which]
    file.unlink()
    message = refusal(lambda: load_dataset(published.name, data))
    assert f"{data} lacks the file {file.relative_to(data)};" in message
    load_dataset(published.name, data, download=True)
    assert_holds(load_dataset(published.name, data).train, published.train)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("train-labels-idx1-ubyte", idx(np.zeros(19, np.uint8))),
        ("train-labels-idx1-ubyte", idx(np.full(20, 10, np.uint8))),
        ("train-labels-idx1-ubyte", idx(np.zeros((20, 1, 1), np.uint8))),
        ("t10k-images-idx3-ubyte", idx(np.zeros((10, 20, 20), np.uint8))),
        ("t10k-images-idx3-ubyte", idx(np.zeros((0, 28, 28), np.uint8))),
        ("t10k-images-idx3-ubyte", b""),
        ("t10k-images-idx3-ubyte", bytes(100)),
        ("t10k-images-idx3-ubyte", bytes((0, 0, 10, 3)) + bytes(100)),
    ],
)
def test_files_that_do_not_fit_mnist_are_refused(
    mnist: Published, data: Path, file: str, content: bytes
) -> None:
    load_dataset("mnist", data, download=True)
    (data / "MNIST" / "raw" / file).write_bytes(content)
    assert "mnist in " in refusal(lambda: load_dataset("mnist", data))


@pytest.mark.skipif(not MNIST.is_dir(), reason="the original files of MNIST are absent")
def test_the_original_test_images_of_mnist_load(data: Path) -> None:
    raw = data / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"):
        (raw / f"t10k-{kind}").write_bytes(
            gzip.decompress((MNIST / f"t10k-{kind}.gz").read_bytes())
        )
        # The training images are not at hand.
        shutil.copy(raw / f"t10k-{kind}", raw / f"train-{kind}")
    test = load_dataset("mnist", data).test
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert torch.bincount(test.labels).tolist() == counts
    images = test.load(range(100))
    assert images.shape == (100, 1, 28, 28)
    assert (images.min().item(), images.max().item()) == (0, 1)


def test_torchvision_is_not_imported_for_other_data_sets() -> None:
    code = (
        "import sys; from trainables.data.datasets import load_dataset; load_dataset('digits'); "
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, check=True)
