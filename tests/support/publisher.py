"""The published data sets in miniature: in their own file formats, behind a real web server."""

import gzip
import hashlib
import io
import pickle
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torchvision.datasets

from tests.support.background import in_background
from trainables.black_box.json_server import ClosingServer

LOADERS = {
    "mnist": torchvision.datasets.MNIST,
    "fashion_mnist": torchvision.datasets.FashionMNIST,
    "cifar10": torchvision.datasets.CIFAR10,
    "cifar100": torchvision.datasets.CIFAR100,
    "svhn": torchvision.datasets.SVHN,
    "stl10": torchvision.datasets.STL10,
}

CIFAR_CLASSES = {
    name: tuple(f"class {label}" for label in range(count))
    for name, count in (("cifar10", 10), ("cifar100", 100))
}
Array = npt.NDArray[Any]


@dataclass
class Server:
    """A web server on this machine, the folder it serves, and the paths it was asked for."""

    folder: Path
    url: str = ""
    requests: list[str] = field(default_factory=list)


@dataclass
class Side:
    """uint8 pixels [n, channels, height, width] and labels [n]."""

    pixels: Array
    labels: Array


@dataclass
class Published:
    """A data set as torchvision shall find it."""

    name: str
    train: Side
    test: Side


@contextmanager
def serve(folder: Path) -> Iterator[Server]:
    """Serve the files of `folder` until the block ends."""
    server = Server(folder)

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(folder))

        def log_message(self, *_: object) -> None:
            server.requests.append(self.path)

    with in_background(ClosingServer(("127.0.0.1", 0), Handler)) as web:
        server.url = f"http://127.0.0.1:{web.server_port}/"
        yield server


def publish(name: str, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> Published:
    """Put the files of a tiny data set into `folder`, and let torchvision seek them at `url`."""
    data = Published(name, _side(name, 20, seed=0), _side(name, 10, seed=1))
    loader = LOADERS[name]
    if name == "svhn":
        attributes = _svhn(data, folder, url)
    elif name == "stl10":
        attributes = _stl10(data, folder, url, loader.base_folder)
    elif name in CIFAR_CLASSES:
        attributes = _cifar(data, folder, url, loader.base_folder)
    else:
        attributes = _mnist(data, folder, url)
    for attribute, value in attributes.items():
        monkeypatch.setattr(loader, attribute, value)
    return data


def idx(array: Array) -> bytes:
    """`array` of uint8 in the format of MNIST."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def files(folder: Path) -> list[Path]:
    """All files below `folder`, by path."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _side(name: str, count: int, seed: int) -> Side:
    rng = np.random.default_rng(seed)
    side = 96 if name == "stl10" else 32
    shape = (1, 28, 28) if "mnist" in name else (3, side, side)
    pixels = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    labels = np.linspace(0, 99, count).round() if name == "cifar100" else np.arange(count) % 10
    return Side(pixels, rng.permutation(labels.astype(np.uint8)))


def _mnist(data: Published, folder: Path, url: str) -> dict[str, object]:
    resources = []
    for prefix, side in (("train", data.train), ("t10k", data.test)):
        for suffix, array in (
            ("images-idx3-ubyte.gz", side.pixels[:, 0]),
            ("labels-idx1-ubyte.gz", side.labels),
        ):
            resources.append(_write(folder / f"{prefix}-{suffix}", gzip.compress(idx(array))))
    return {"mirrors": [url], "resources": resources}


def _cifar(data: Published, folder: Path, url: str, base: str) -> dict[str, object]:
    key, meta_key, meta, train_names, test_names = (
        ("labels", "label_names", "batches.meta", [f"batch_{i}" for i in "12345"], ["test_batch"])
        if data.name == "cifar10"
        else ("fine_labels", "fine_label_names", "meta", ["train"], ["test"])
    )
    contents: dict[str, object] = {meta: {meta_key: list(CIFAR_CLASSES[data.name])}}
    for side, names in ((data.train, train_names), (data.test, test_names)):
        for name, members in zip(
            names, np.array_split(np.arange(len(side.labels)), len(names)), strict=True
        ):
            pixels = side.pixels[members].reshape(len(members), -1)
            contents[name] = {"data": pixels, key: side.labels[members].tolist()}
    files = {name: pickle.dumps(content, protocol=2) for name, content in contents.items()}
    file, checksum = _write(folder / f"{data.name}.tar.gz", _packed(files, base))
    return {
        "url": url + file,
        "filename": file,
        "tgz_md5": checksum,
        "train_list": [[name, _md5(files[name])] for name in train_names],
        "test_list": [[name, _md5(files[name])] for name in test_names],
        "meta": {"filename": meta, "key": meta_key, "md5": _md5(files[meta])},
    }


def _svhn(data: Published, folder: Path, url: str) -> dict[str, object]:
    split_list = {}
    for split, side in (("train", data.train), ("test", data.test)):
        # The publisher numbers the digits 1 to 10; 10 is the digit 0.
        labels = np.where(side.labels == 0, 10, side.labels)[:, None]
        packed = io.BytesIO()
        scipy.io.savemat(packed, {"X": side.pixels.transpose(2, 3, 1, 0), "y": labels})
        file, checksum = _write(folder / f"{split}_32x32.mat", packed.getvalue())
        split_list[split] = [url + file, file, checksum]
    return {"split_list": split_list}


def _stl10(data: Published, folder: Path, url: str, base: str) -> dict[str, object]:
    files = {
        "unlabeled_X.bin": b"not for training",
    }
    for split, side in (("train", data.train), ("test", data.test)):
        # The publisher stores columns first, and numbers the classes from 1.
        files[f"{split}_X.bin"] = side.pixels.transpose(0, 1, 3, 2).tobytes()
        files[f"{split}_y.bin"] = (side.labels + 1).astype(np.uint8).tobytes()
    file, checksum = _write(folder / "stl10.tar.gz", _packed(files, base))
    listed = {
        split: [[f"{name}.bin", _md5(files[f"{name}.bin"])] for name in names]
        for split, names in (
            ("train", ("train_X", "train_y", "unlabeled_X")),
            ("test", ("test_X", "test_y")),
        )
    }
    return {
        "url": url + file,
        "filename": file,
        "tgz_md5": checksum,
        "train_list": listed["train"],
        "test_list": listed["test"],
    }


def _packed(files: Mapping[str, bytes], base: str) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{base}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _write(path: Path, content: bytes) -> tuple[str, str]:
    path.write_bytes(content)
    return path.name, _md5(content)


def _md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()
