import gzip
import socket
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torchvision.datasets

from tests.support.publisher import Published, Server, files, publish
from tests.support.refusal import refusal
from trainables.data import fetching
from trainables.data.datasets import load_dataset


def test_nothing_is_fetched_unless_asked_for(
    published: Published, server: Server, data: Path
) -> None:
    first = {
        "mnist": "MNIST/raw/train-images-idx3-ubyte",
        "fashion_mnist": "FashionMNIST/raw/train-images-idx3-ubyte",
        "cifar10": "cifar-10-batches-py/batch_1",
        "cifar100": "cifar-100-python/train",
        "svhn": "train_32x32.mat",
        "stl10": "stl10_binary/train_X.bin",
    }[published.name]
    message = refusal(lambda: load_dataset(published.name, data))
    assert message == (
        f"dataset: {published.name} is not in {data}; pass `download` to fetch it, or `data_dir` "
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
    assert message.startswith(f"download: {name} could not be fetched (")
    assert reason in message
    place = {
        "mnist": data / "MNIST" / "raw",
        "fashion_mnist": data / "FashionMNIST" / "raw",
        "cifar10": data / "cifar-10-batches-py",
        "cifar100": data / "cifar-100-python",
        "svhn": data,
        "stl10": data / "stl10_binary",
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
    monkeypatch.setattr(fetching, "SILENCE", 0.1)
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
    assert message.startswith("download: mnist could not be fetched")


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
