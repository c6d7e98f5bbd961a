import gzip
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets

from tests.trainables.data.publisher import (
    CIFAR_CLASSES,
    LOADERS,
    Published,
    Server,
    Side,
    idx,
    publish,
    serve,
)
from tests.trainables.data.refusal import refusal
from trainables.data import torchvision_sets
from trainables.data.datasets import TensorImages, load_dataset

REPO_ROOT = Path(__file__).resolve().parents[3]
MNIST = REPO_ROOT.parent / "shared" / "data" / "mnist" / "MNIST" / "raw"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "*")
    (tmp_path / "web").mkdir()
    with serve(tmp_path / "web") as running:
        yield running


@pytest.fixture(params=LOADERS)
def published(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Published:
    return publish(request.param, server.folder, server.url, monkeypatch)


@pytest.fixture
def mnist(server: Server, monkeypatch: pytest.MonkeyPatch) -> Published:
    return publish("mnist", server.folder, server.url, monkeypatch)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


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
    shape = (1, 28, 28) if "mnist" in published.name else (3, 32, 32)
    assert dataset.train.load([3, 1]).shape == (2, *shape)


def test_classes_have_the_names_that_their_publishers_gave(
    published: Published, data: Path
) -> None:
    expected = {
        "mnist": tuple(torchvision.datasets.MNIST.classes),
        "fashion_mnist": tuple(torchvision.datasets.FashionMNIST.classes),
        "svhn": tuple("0123456789"),
        **CIFAR_CLASSES,
    }
    assert load_dataset(published.name, data, download=True).classes == expected[published.name]


def test_the_labels_of_svhn_are_the_digits(
    server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("svhn", server.folder, server.url, monkeypatch)
    labels = load_dataset("svhn", data, download=True).train.labels
    assert sorted(set(labels.tolist())) == list(range(10))


def test_nothing_is_fetched_unless_asked_for(
    published: Published, server: Server, data: Path
) -> None:
    first = {
        "mnist": "MNIST/raw/train-images-idx3-ubyte",
        "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
        "cifar10": "cifar-10-batches-py/batch_1",
        "cifar100": "cifar-100-python/train",
        "svhn": "train_32x32.mat",
    }[published.name]
    message = refusal(lambda: load_dataset(published.name, data))
    assert message == (
        f"--dataset: {published.name} is not in {data}; pass --download to fetch it, or --data-dir "
        f"with the folder that holds {first}"
    )
    assert server.requests == []
    assert not data.exists()


def test_data_that_are_there_are_not_fetched_again(
    published: Published, server: Server, data: Path
) -> None:
    load_dataset(published.name, data, download=True)
    server.requests.clear()
    load_dataset(published.name, data, download=True)
    assert server.requests == []


def test_a_fetch_leaves_the_unpacked_files_and_nothing_else(
    published: Published, data: Path
) -> None:
    load_dataset(published.name, data, download=True)
    count = {"cifar10": 7, "cifar100": 3, "svhn": 2}.get(published.name, 4)
    assert len(files(data)) == count
    assert not any(path.suffix == ".gz" for path in files(data))
    assert not [path for path in data.iterdir() if path.name.startswith(".")]


def test_a_fetch_writes_nothing_to_standard_output(
    mnist: Published, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    load_dataset("mnist", data, download=True)
    assert capfd.readouterr().out == ""


def test_data_lie_in_the_cache_by_default(
    mnist: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    load_dataset("mnist", download=True)
    assert (tmp_path / "decrop" / "data" / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file()


def assert_not_fetched(name: str, data: Path, reason: str) -> None:
    message = refusal(lambda: load_dataset(name, data, download=True))
    assert message.startswith(f"--download: {name} could not be fetched (")
    assert reason in message
    place = {
        "mnist": data / "MNIST" / "raw",
        "fashion_mnist": data / "FashionMNIST" / "raw",
        "cifar10": data / "cifar-10-batches-py",
        "cifar100": data / "cifar-100-python",
        "svhn": data,
    }
    assert message.endswith(f" into {place[name]} by hand")
    assert list(data.iterdir()) == []
    assert f"{name} is not in {data}" in refusal(lambda: load_dataset(name, data))


def test_files_the_server_does_not_have_leave_nothing(
    published: Published, server: Server, data: Path
) -> None:
    for file in files(server.folder):
        file.unlink()
    assert_not_fetched(published.name, data, "HTTP Error 404: File not found")


def test_a_server_that_is_down_leaves_nothing(
    published: Published, server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    publish(published.name, server.folder, f"http://127.0.0.1:{port}/", monkeypatch)
    assert_not_fetched(published.name, data, "Connection refused")


@pytest.mark.parametrize("damage", ["other bytes", "cut short"])
def test_bytes_with_a_wrong_checksum_leave_nothing(
    published: Published, server: Server, data: Path, damage: str
) -> None:
    for file in files(server.folder):
        content = file.read_bytes()
        file.write_bytes(b"x" + content[1:] if damage == "other bytes" else content[:-1])
    assert_not_fetched(published.name, data, "corrupted")


def test_a_failure_at_the_last_file_leaves_nothing(
    mnist: Published, server: Server, data: Path
) -> None:
    (server.folder / "t10k-labels-idx1-ubyte.gz").unlink()
    assert_not_fetched("mnist", data, "404")


def test_a_server_that_never_answers_is_given_up(
    published: Published, server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torchvision_sets, "SILENCE", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/"
        publish(published.name, server.folder, url, monkeypatch)
        assert_not_fetched(published.name, data, "timed out")
    assert socket.getdefaulttimeout() is None


def test_a_server_that_speaks_no_http_leaves_nothing(
    published: Published, server: Server, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(b"nonsense\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
        publish(published.name, server.folder, url, monkeypatch)
        thread = Thread(target=answer, args=[listening])
        thread.start()
        assert_not_fetched(published.name, data, "nonsense")
        thread.join()


def test_a_folder_that_cannot_be_written_is_an_error_of_one_line(
    mnist: Published, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    message = refusal(lambda: load_dataset("mnist", tmp_path / "file", download=True))
    assert message.startswith("--download: mnist could not be fetched")


def test_an_interrupted_fetch_leaves_nothing(
    mnist: Published, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpack, seen = gzip.open, []

    def interrupted(path: str, mode: str) -> Any:
        seen.append(path)
        if len(seen) == 4:
            Path(path).with_suffix("").write_bytes(b"half a file")
            raise KeyboardInterrupt
        return unpack(path, mode)

    monkeypatch.setitem(torchvision.datasets.utils._COMPRESSED_FILE_OPENERS, ".gz", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_dataset("mnist", data, download=True)
    assert len(seen) == 4
    assert list(data.iterdir()) == []


@pytest.mark.parametrize("which", [0, -1])
def test_a_damaged_file_is_refused_and_can_be_fetched_again(
    published: Published, data: Path, which: int
) -> None:
    load_dataset(published.name, data, download=True)
    file = files(data)[which]
    file.write_bytes(file.read_bytes()[:-1])
    message = refusal(lambda: load_dataset(published.name, data))
    assert message.startswith(f"--dataset: {published.name} in {data} is damaged or cannot be read")
    assert "pass --download" in message
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


def test_torchvision_is_not_imported_for_other_data_sets() -> None:
    code = (
        "import sys; from trainables.data.datasets import load_dataset; load_dataset('digits'); "
        "sys.exit('torchvision' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPO_ROOT, check=True)


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
    assert (images.min(), images.max()) == (0, 1)
