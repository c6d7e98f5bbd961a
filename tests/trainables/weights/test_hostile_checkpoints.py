"""Checkpoints that a stranger may send: refused in one line, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import regnet_x_400mf, resnet18

from tests.support.pickles import (
    END,
    ORDERED,
    as_key,
    doubled,
    get,
    long_list,
    number,
    often,
    put,
    storage,
    tensor,
    text,
    weights,
)
from tests.support.refusing import Refusal, refusals
from trainables.errors import InputError
from trainables.weights.checkpoint import network_for, read_weights
from trainables.weights.pickled import load_pickled

# Far more than the refusals take, and far less than what the files ask for.
MEMORY = 2**30
LARGE = number(2**36) + b"\x85R"
PICKLES: dict[str, tuple[str, bytes]] = {
    "bytearray": ("more than weights", weights(b"cbuiltins\nbytearray\n" + LARGE)),
    "encode": ("more than weights", weights(
        doubled(b"c_codecs\nencode\n" + text("x" * 99) + text("hex") + b"\x86R", b"\x86", 1))),
    "tensor_type": ("more than weights", weights(b"ctorch\nFloatTensor\n" + LARGE)),
    "expanded": ("expanded", weights(tensor(storage(4), 2**33, 0))),
    "overlapping": ("expanded", weights(tensor(storage(1024), 1000, 1)).replace(
        b"(" + number(1000) + b"t(" + number(1) + b"t",
        b"(" + number(1000) * 3 + b"t(" + number(0) + number(0) + number(1) + b"t")),
    "beyond_record": ("damaged", weights(tensor(storage(2**36), 2**36, 1))),
    "beyond_storage": ("damaged", weights(tensor(storage(4), 2**36, 1))),
    "nested_key": ("nested", as_key(number(1) + b"\x85" * 10**6)),
    "doubled_key": ("nested", as_key(doubled(number(1), b"\x86", 60))),
    "doubled_list": ("nested", weights(doubled(b"]" + number(1) + b"a", b"\x86", 60))),
    "objects": ("nested", weights(b"](" + b"}" * 1_100_000 + b"e")),
    "ordered": ("nested", weights(often(ORDERED, long_list(10_000), 10_000))),
    "sizes": ("nested", weights(often(b"ctorch\nSize\n", long_list(10_000), 10_000))),
    "letters": ("nested", weights(often(b"ccollections\nCounter\n", text("x" * 10**5), 10_000))),
    "updated": ("nested", weights(
        b"](" + long_list(0) + put(1) + b"}(" + b"".join(text(f"{i}") + b"N" for i in range(9999))
        + b"u" + put(0) + ORDERED + b")R" + (get(0) + b"b") * 10_000 + b"e")),
    "itself": ("nested", weights(b"]" + put(0) + get(0) + b"a")),
    "no_mark": ("not a PyTorch checkpoint", b"\x80\x02t."),
    "nothing": ("not a PyTorch checkpoint", b"\x80\x02" + put(0) + b"."),
    "endless_string": ("damaged", b"\x80\x02X\xff\xff\xff\xff."),
    "endless_number": ("damaged", b"\x80\x02\x8b\xff\xff\xff\x7f."),
}  # fmt: skip


def archive(path: Path, data: bytes, kept: bytes = bytes(4096), **options: Any) -> Path:
    """A file such as `torch.save` writes, of a pickle and of what its only storage holds."""
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, content in (("data.pkl", data), ("byteorder", b"little"), ("data/0", kept),
                              ("version", b"3\n")):  # fmt: skip
            file.writestr(f"archive/{name}", content)
    return path


def older(path: Path, data: bytes, keys: list[str], kept: bytes = b"") -> Path:
    """A file of PyTorch before 1.6: pickles one after the other, then what the storages hold."""
    magic: list[object] = [0x1950A86A20F9469CFC6C, 1001, {}]
    facts = [pickle.dumps(fact, 2) for fact in magic]
    path.write_bytes(b"".join([*facts, data, pickle.dumps(keys, 2), kept]))
    return path


def network_weights() -> dict[str, torch.Tensor]:
    return {k: v for k, v in resnet18(num_classes=2).state_dict().items() if "num_batches" not in k}


def write_checkpoints(folder: Path) -> None:
    for name, (_, data) in PICKLES.items():
        archive(folder / name, data)
    for name, size, keys in (("empty", 2**28, []), ("huge", 2**45, ["0"]), ("short", 2**28, ["0"])):
        data = weights(tensor(storage(size, b"N"), size, 1))
        older(folder / f"older_{name}", data, keys, struct.pack("<q", size))
    with zipfile.ZipFile(folder / "capitals", "w") as file:
        file.writestr("archive/DATA.pkl", PICKLES["bytearray"][1])
    with zipfile.ZipFile(folder / "constants", "w") as file:
        file.writestr("archive/data.pkl", PICKLES["bytearray"][1])
        file.writestr("other/constants.pkl", b"")
    older(folder / "older_call", PICKLES["bytearray"][1], [])
    zeros = {"x": torch.zeros(2**26)}
    buffer = io.BytesIO()
    torch.save(zeros, buffer)
    bomb = zipfile.ZipFile(folder / "bomb", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(buffer) as plain, bomb:
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    with zipfile.ZipFile(folder / "compressed", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", weights(b"N"))
    with zipfile.ZipFile(folder / "twice", "w") as file:
        file.writestr("archive/data.pkl", weights(b"N"))
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("archive/data.pkl", weights(tensor(storage(4), 2**33, 0)))
    views = torch.zeros(2**18)
    torch.save({str(i): views[i:] for i in range(3000)}, folder / "views")
    place = torch.zeros(1, 1, dtype=torch.long)
    sparse = torch.sparse_coo_tensor(place, [1.0], (2**40,), check_invariants=True)
    torch.save({"x": sparse}, folder / "sparse")
    torch.save({"x": torch.empty(2**40, device="meta")}, folder / "meta")
    header = json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 4]}}).encode()
    for name, length in (("shape", len(header)), ("header", 2**40)):
        file_name = folder / f"{name}.safetensors"
        file_name.write_bytes(struct.pack("<Q", length) + header + bytes(4))
    with (folder / "sparse_file.safetensors").open("wb") as empty:
        empty.truncate(2**40)


FILES = {
    "older_empty": "bytes of weights", "older_huge": "damaged", "older_short": "damaged",
    "older_call": "more than weights", "capitals": "more than weights",
    "constants": "is a TorchScript program",
    "bomb": "unpack to", "compressed": "compressed", "twice": "same name",
    "views": "bytes of weights", "sparse": "more than weights", "meta": "more than weights",
    "shape.safetensors": "damaged", "header.safetensors": "damaged",
    "sparse_file.safetensors": "damaged",
}  # fmt: skip
EXPECTED = {**{name: phrase for name, (phrase, _) in PICKLES.items()}, **FILES}


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refusal]:
    folder = tmp_path_factory.mktemp("hostile")
    write_checkpoints(folder)
    return refusals("weights", [folder / name for name in EXPECTED])


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_checkpoint_is_refused_in_one_line_and_in_little_memory(
    refused: dict[str, Refusal], name: str
) -> None:
    message, memory = refused[name]
    assert EXPECTED[name] in message
    assert message.startswith("weights: ")
    assert name in message
    assert "\n" not in message
    assert memory < MEMORY


# Networks of 2 GiB, which the process could just make.
HEADS: dict[str, Callable[[dict[str, torch.Tensor]], None]] = {
    "bias": lambda w: w.update({"fc.bias": torch.zeros(2**20)}),
    "column": lambda w: w.update({"fc.weight": torch.zeros(2**20, 1)}),
    "channels": lambda w: w.update({"bn1.weight": torch.zeros(1, 2**18)}),
}


def test_weights_cannot_claim_a_network_that_is_larger_than_they_are(tmp_path: Path) -> None:
    files = []
    for name, edit in HEADS.items():
        content = network_weights()
        edit(content)
        torch.save(content, tmp_path / name)
        files.append(tmp_path / name)
    for name, (message, memory) in refusals("resnet", files).items():
        assert f"{name} do not fit" in message
        assert "\n" not in message
        # The file itself has 60 MB.
        assert memory < MEMORY


@pytest.mark.parametrize("make", [resnet18, regnet_x_400mf])
def test_the_network_that_weights_belong_to_is_made(make: Callable[..., nn.Module]) -> None:
    kept = make(num_classes=7).state_dict()

    def build(channels: int, classes: int) -> nn.Module:
        network = make(num_classes=classes)
        assert channels in (1, 2, 3)
        return network

    network = network_for(build, kept)
    assert all(torch.equal(network.state_dict()[name], kept[name]) for name in kept)


@pytest.mark.parametrize("zipped", [True, False])
def test_what_checkpoints_of_training_hold_is_read(tmp_path: Path, zipped: bool) -> None:
    convolution = nn.Conv2d(1, 2, 3)
    network = nn.Sequential(convolution, nn.BatchNorm2d(2))
    adam = torch.optim.Adam(network.parameters())
    network(torch.rand(2, 1, 5, 5)).sum().backward()
    adam.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(adam, [2, 5])
    half = convolution.weight.detach().half().to(memory_format=torch.channels_last)
    content = {
        "state_dict": network.state_dict(), "optimizer": adam.state_dict(), "half": half,
        "schedule": schedule.state_dict(), "random": torch.get_rng_state(), "epoch": 3,
        "parameters": dict(network.named_parameters()), "type": torch.bfloat16, "loss": 0.25,
        "tied": [half, half[1:], half[..., 0]], "sizes": torch.Size([2, 3]), "names": {"a", "b"},
        "device": torch.device("cpu"), "counts": Counter("aab"), "none": (None, True, 2**40),
    }  # fmt: skip
    path = tmp_path / "c.pt"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    found = load_pickled(path, "weights")
    assert isinstance(found, dict)
    assert found.keys() == content.keys()
    assert all(torch.equal(found["state_dict"][k], v) for k, v in network.state_dict().items())
    assert found["counts"] == content["counts"]


def test_what_shadows_a_method_of_a_dictionary_is_dropped(tmp_path: Path) -> None:
    shadow = b"}" + text("items") + number(5) + b"s" + text("_metadata") + number(5) + b"sb"
    data = (
        b"\x80\x02" + ORDERED + b")R" + text("x") + tensor(storage(4), 4, 1) + b"s" + shadow + END
    )
    found = load_pickled(archive(tmp_path / "c.pt", data + END), "weights")
    assert isinstance(found, OrderedDict)
    assert [name for name, _ in found.items()] == ["x"]
    assert not hasattr(found, "_metadata")


def deep_header() -> bytes:
    header = b'{"__metadata__":{"denoiser":"' + b"[" * 10**6 + b'"}}'
    return struct.pack("<Q", len(header)) + header


def test_files_of_denoisers_that_never_end_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    with (tmp_path / "sparse").open("wb") as empty:
        empty.truncate(2**40)
    (tmp_path / "deep").write_bytes(deep_header())
    save_file({"x": torch.zeros(2)}, tmp_path / "other")
    names = ["pipe", "device", "sparse", "deep", "other"]
    for name, (message, memory) in refusals("denoiser", [tmp_path / n for n in names]).items():
        assert message.startswith("init_denoiser: ")
        assert name in message
        assert "\n" not in message
        assert memory < MEMORY


def test_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="does not exist"):
        read_weights(tmp_path / "pipe")
