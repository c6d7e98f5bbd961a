"""MedMNIST's files, in miniature and as others might leave them."""

import hashlib
import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.publisher import Server
from tests.support.refusal import refusal
from trainables.choices import MEDMNIST
from trainables.data import medmnist
from trainables.data.datasets import load_dataset
from trainables.data.medmnist import SETS

Arrays = dict[str, np.ndarray[Any, Any]]


def arrays(channels: int = 1, size: int = 28, classes: int = 2, seed: int = 0) -> Arrays:
    rng = np.random.default_rng(seed)
    shape = (size, size) if channels == 1 else (size, size, channels)
    found: Arrays = {}
    for side, count in (("train", 12), ("val", 4), ("test", 6)):
        found[f"{side}_images"] = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
        found[f"{side}_labels"] = (np.arange(count) % classes)[:, None].astype(np.uint8)
    return found


def packed(content: Arrays) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **content)  # type: ignore[arg-type]
    return file.getvalue()


def test_the_names_known_beforehand_are_those_that_can_be_read() -> None:
    assert tuple(SETS) == MEDMNIST


@pytest.mark.parametrize(("channels", "size"), [(1, 28), (3, 28), (3, 64)])
def test_a_file_holds_its_images_and_labels(tmp_path: Path, channels: int, size: int) -> None:
    content = arrays(channels, size)
    (tmp_path / "breastmnist.npz").write_bytes(packed(content))
    dataset = load_dataset("breastmnist", tmp_path)
    assert dataset.classes == ("malignant", "normal, benign")
    assert dataset.notes == ("left out 4 images for validation",)
    for side, images in (("train", dataset.train), ("test", dataset.test)):
        labels = content[f"{side}_labels"][:, 0]
        assert images.labels.tolist() == labels.tolist()
        found = (images.load(range(len(labels))) * 255).round().permute(0, 2, 3, 1).numpy()
        expected = content[f"{side}_images"].reshape(found.shape)
        assert np.array_equal(found, expected)


def test_a_missing_file_is_fetched_if_that_is_asked_for(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = packed(arrays())
    (server.folder / "breastmnist.npz").write_bytes(data)
    monkeypatch.setattr(medmnist, "URL", server.url + "{name}.npz")
    checksum = medmnist._Set(hashlib.md5(data).hexdigest(), SETS["breastmnist"][1])
    monkeypatch.setitem(SETS, "breastmnist", checksum)
    place = tmp_path / "data"
    message = refusal(lambda: load_dataset("breastmnist", place))
    assert message.startswith(f"dataset: breastmnist is not in {place}; pass `download`")
    assert server.requests == []
    fetched = load_dataset("breastmnist", place, download=True)
    assert [path.name for path in place.iterdir()] == ["breastmnist.npz"]
    again = load_dataset("breastmnist", place)
    assert torch.equal(fetched.test.load([3]), again.test.load([3]))


def test_a_file_with_a_wrong_checksum_leaves_nothing(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    (server.folder / "breastmnist.npz").write_bytes(packed(arrays()))
    monkeypatch.setattr(medmnist, "URL", server.url + "{name}.npz")
    place = tmp_path / "data"
    message = refusal(lambda: load_dataset("breastmnist", place, download=True))
    assert message.startswith("download: breastmnist could not be fetched (")
    assert list(place.iterdir()) == []


def changed(**values: np.ndarray[Any, Any]) -> bytes:
    return packed(arrays() | values)


def without(name: str) -> bytes:
    return packed({key: value for key, value in arrays().items() if key != name})


def claiming(size: int) -> bytes:
    """A file whose images claim to be far more than there are."""
    header = io.BytesIO()
    described = {"descr": "|u1", "fortran_order": False, "shape": (size, 28, 28)}
    np.lib.format.write_array_header_1_0(header, described)
    file = io.BytesIO(packed({k: v for k, v in arrays().items() if k != "train_images"}))
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("train_images.npy", header.getvalue())
    return file.getvalue()


@pytest.mark.parametrize(
    "make",
    [
        lambda: b"",
        lambda: b"not a zip file",
        lambda: packed(arrays())[:-100],
        lambda: without("train_images"),
        lambda: without("test_labels"),
        lambda: changed(train_images=np.zeros((12, 28, 28), np.float32)),
        lambda: changed(train_images=np.zeros((12, 28, 28, 4), np.uint8)),
        lambda: changed(train_images=np.zeros((11, 28, 28), np.uint8)),
        lambda: changed(train_labels=np.zeros((12, 14), np.uint8)),
        lambda: changed(train_labels=np.full((12, 1), 2, np.uint8)),
        lambda: changed(test_labels=np.full((6, 1), -1)),
        lambda: changed(test_labels=np.full((6, 1), 0.5)),
        lambda: changed(test_labels=np.array([[object()]] * 6)),
        lambda: claiming(10**6),
        lambda: claiming(10**14),
    ],
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, make: Callable[[], bytes]) -> None:
    path = tmp_path / "breastmnist.npz"
    path.write_bytes(make())
    message = refusal(lambda: load_dataset("breastmnist", tmp_path))
    assert message == f"dataset: {path} is damaged, or is not of breastmnist; fetch it again"


def test_a_file_that_does_not_fit_into_memory_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breastmnist.npz").write_bytes(packed(arrays()))
    monkeypatch.setattr(medmnist, "MOST_BYTES", 1000)
    assert "more than fit into memory" in refusal(lambda: load_dataset("breastmnist", tmp_path))
