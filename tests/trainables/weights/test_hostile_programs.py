"""Programs that a stranger may send: refused in one line, in bounded time and memory."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.programs import Edit, export, first, node, random_images, tamper
from tests.support.refusing import Refusal, refusals
from trainables.errors import InputError
from trainables.weights.exported import load_exported

# Far more than the refusals take, and far less than what the files ask for.
MEMORY = 2**30
IMAGES = "@images"


class Small(nn.Module):
    """A convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(4, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(torch.relu(self.conv(images)).mean((2, 3)))
        return logits


def ones(*sizes: int, output: str = "made") -> dict[str, Any]:
    return node("aten.ones.default", output, size=list(sizes))


def convolution(**numbers: Any) -> dict[str, Any]:
    return node("aten.conv2d.default", input=IMAGES, weight="@p_conv_weight", **numbers)


def squared(times: int) -> list[dict[str, Any]]:
    """A number, squared again and again."""
    name = {"as_name": "made"}
    steps = [node("_operator.mul", a=10**9, b=10**9)]
    steps += [node("_operator.mul", a={"as_int": name}, b={"as_int": name}) for _ in range(times)]
    for step in steps:
        step["outputs"] = [{"as_int": {"as_name": "made"}}]
    return steps


BYTES, OPERATIONS, RANGE = "bytes for 2 images", "operations for 2 images", "out of range"
STEPS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "ones": (BYTES, [ones(2**31)]),
    "ones_of_two_sizes": (BYTES, [ones(2**20, 2**20)]),
    "sizes_that_overflow": ("overflowed", [ones(2**40, 2**40)]),
    "full": (BYTES, [node("aten.full.default", size=[2**33], fill_value=1)]),
    "arange": (BYTES, [node("aten.arange.default", end=2**36)]),
    "linspace": (BYTES, [node("aten.linspace.default", start=0, end=1, steps=2**36)]),
    "eye": (BYTES, [node("aten.eye.default", n=2**20)]),
    "many_ones": (BYTES, [ones(2**26, output=f"made{i}") for i in range(3)]
                  + [node("aten.add.Tensor", self=f"@made{i}", other="@made2") for i in range(2)]
                  + [node("aten.cat.default", tensors={"as_tensors": [{"name": "made0"}]})] * 2
                  + [ones(2**26, output=f"more{i}") for i in range(3)]
                  + [node("aten.cat.default", tensors={"as_tensors": [
                      {"name": f"{kind}{i}"} for kind in ("made", "more") for i in range(3)]})]),
    "expand": (BYTES, [node("aten.expand.default", self=IMAGES, size=[2**24, 2, 1, 8, 8])]),
    "repeat": (BYTES, [node("aten.repeat.default", self=IMAGES, repeats=[2**24, 1, 1, 1])]),
    "pad": (BYTES, [node("aten.constant_pad_nd.default", self=IMAGES, pad=[9999, 9999] * 2)]),
    "upsample": (BYTES, [node("aten.upsample_nearest2d.default", self=IMAGES,
                              output_size=[2**16, 2**16])]),
    "outer_product": (BYTES, [ones(40_000, 1, output="a"), ones(40_000, output="b"),
                              node("aten.mul.Tensor", self="@a", other="@b")]),
    "inner_product": (BYTES, [ones(40_000, output="a"), node(
        "aten.einsum.default", equation="i,j->ij",
        tensors={"as_tensors": [{"name": "a"}, {"name": "a"}]})]),
    "products": (OPERATIONS, [ones(11_000, 11_000),
                              node("aten.mm.default", self="@made", mat2="@made")]),
    "pooling": (OPERATIONS, [
        node("aten.upsample_nearest2d.default", "a", self=IMAGES, output_size=[4096, 4096]),
        node("aten.max_pool2d.default", self="@a", kernel_size=[2048, 2048], stride=[1, 1])]),
    "sums": (OPERATIONS, [ones(2**27), *[node("aten.sum.default", "b", self="@made")] * 900,
                          node("aten.add.Tensor", self="@made", other="@b")]),
    "dilation": (RANGE, [convolution(dilation=[2**62, 2**62])]),
    "padding": (RANGE, [convolution(padding=[2**40, 2**40])]),
    "stride": (RANGE, [convolution(stride=[2**63 - 1, 1])]),
    "kernel": (RANGE, [node("aten.avg_pool2d.default", self=IMAGES, kernel_size=[2**33, 2**33])]),
    "scale": (RANGE, [node("aten.upsample_bilinear2d.default", self=IMAGES, output_size=[9, 9],
                           align_corners=False, scales_h=1e-300, scales_w=1e-300)]),
    "pieces": (RANGE, [ones(2**24), node("aten.unbind.int", ["a", "b"], self="@made")]),
    "numbers": ("is not a size", squared(60)),
    "lists": ("is not a size", [node("_operator.mul", a=[1], b=10**12)]),
    "strings": ("is not a size", [node("_operator.mul", a="x", b=10**12)]),
    "steps": ("more than 20000", [ones(1)] * 20_000),
    "dimensions": ("dimensions", [ones(*[1] * 100)]),
    "statistics": ("of another size", [node(
        "aten._native_batch_norm_legit_no_training.default", ["made", "b", "c"],
        input=IMAGES, weight={"as_none": True}, bias={"as_none": True}, running_mean="@p_head_bias",
        running_var="@p_head_bias", momentum=0.1, eps=1e-5)]),
    "smallest_integer": ("of integers", [
        node("aten.full.default", "a", size=[4], fill_value=-(2**63)),
        node("aten.div.Scalar_mode", self="@a", other=-1, rounding_mode="trunc")]),
    "beyond_storage": ("out of bounds", [node("aten.as_strided.default", self=IMAGES,
                                              size=[4, 4], stride=[4096, 1])]),
    "random_attention": ("training mode", [node(
        "aten.scaled_dot_product_attention.default", query=IMAGES, key=IMAGES, value=IMAGES,
        dropout_p=0.5)]),
    "written_weight": ("changes its weights", [
        node("aten.view.default", "a", self="@p_conv_weight", size=[36]),
        node("aten.mul_.Tensor", self="@a", other=2)]),
    "sparse": ("sparse", [node("aten.ones.default", size=[4], layout={"as_layout": 1})]),
    "complex": ("complex", [node("aten.ones.default", size=[4], dtype={"as_scalar_type": 10})]),
}  # fmt: skip


def change(name: str, **meta: Any) -> Edit:
    def edit(weights: dict[str, Any]) -> None:
        sizes = {key: [{"as_int": n} for n in meta[key]] for key in meta}
        weights[name]["tensor_meta"].update(sizes)

    return edit


def shared_by_many(weights: dict[str, Any]) -> None:
    change("conv.bias", sizes=[2**20])(weights)
    weights.update({f"copy{i}": weights["conv.bias"] for i in range(10_000)})


WEIGHTS: dict[str, tuple[str, Edit]] = {
    "stride_0": ("fewer bytes", change("conv.bias", sizes=[2**31], strides=[0])),
    "overlapping": ("fewer bytes", change("conv.bias", sizes=[2**16, 2**15], strides=[1, 1])),
    "too_large": ("fewer bytes", change("conv.bias", sizes=[2**40], strides=[1])),
    "negative": ("fewer bytes", change("conv.bias", sizes=[-(2**40), -4], strides=[1, 1])),
    "beyond": ("damaged", change("conv.bias", sizes=[2], strides=[2**40])),
    "shared_by_many": ("far fewer bytes", shared_by_many),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    return export(tmp_path_factory.mktemp("small") / "c.pt2", Small().eval(), random_images())


def zipped(path: Path, members: list[tuple[str, bytes]], **options: Any) -> Path:
    with zipfile.ZipFile(path, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return path


ARCHIVES = {
    "bomb": "unpack to", "long": "describes its network", "deep": "damaged", "digits": "damaged",
    "twice": "same name", "parts": "parts", "appended": "damaged", "prefixed": "damaged",
}  # fmt: skip


def write_archives(small: Path, folder: Path) -> None:
    with zipfile.ZipFile(small) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    (model,) = (name for name, _ in members if name.endswith("model.json"))
    rest = [member for member in members if member[0] != model]
    plain = small.read_bytes()

    def write(name: str, description: bytes, **options: Any) -> None:
        zipped(folder / name, [*rest, (model, description)], **options)

    write("bomb", b" " * 2**28, compression=zipfile.ZIP_DEFLATED)
    write("long", b" " * (2**25 + 1))
    write("deep", b'{"graph_module":' + b"[" * 10**6)
    write("digits", b'{"schema_version":' + b"9" * 10**6 + b"}")
    with pytest.warns(UserWarning, match="Duplicate"):
        zipped(folder / "twice", [*members, members[0]])
    zipped(folder / "parts", [*members, *((f"x{i}", b"") for i in range(2**16))])
    (folder / "appended").write_bytes(plain + b"x")
    # Readers disagree on where the directory of such an archive is.
    whole = zipped(folder / "whole", members)
    (folder / "prefixed").write_bytes(b"PK\x03\x04" * 100 + whole.read_bytes())
    whole.unlink()


@pytest.fixture(scope="module")
def refused(small: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Refusal]:
    folder = tmp_path_factory.mktemp("hostile")
    for name, (_, steps) in STEPS.items():
        tamper(small, folder / f"{name}.pt2", first(*steps))
    for name, (_, edit) in WEIGHTS.items():
        file = {"data/weights/weight_1": bytes(2**22)} if name == "shared_by_many" else {}
        tamper(small, folder / f"{name}.pt2", lambda _: None, file, edit)
    write_archives(small, folder)
    for name in ARCHIVES:
        (folder / name).rename(folder / f"{name}.pt2")
    return refusals("classifier", sorted(folder.glob("*.pt2")))


EXPECTED = {name: phrase for name, (phrase, _) in (STEPS | WEIGHTS).items()} | ARCHIVES


@pytest.mark.parametrize("name", EXPECTED)
def test_a_hostile_program_is_refused_in_one_line_and_in_little_memory(
    refused: dict[str, Refusal], name: str
) -> None:
    message, memory = refused[f"{name}.pt2"]
    assert EXPECTED[name] in message
    # Only that one is found by running the program.
    assert f"{name}.pt2" in message or name == "beyond_storage"
    assert "\n" not in message
    assert memory < MEMORY


def test_a_batch_whose_size_is_raised_to_a_power_is_refused_when_it_comes(
    tmp_path: Path, small: Path
) -> None:
    size = node("aten.sym_size.int", self=IMAGES, dim=0)
    size["outputs"] = [{"as_int": {"as_name": "batch"}}]
    batch = {"as_sym_int": {"as_name": "batch"}}
    many = node("aten.ones.default", size={"as_sym_ints": [batch["as_sym_int"]] * 6})
    path = tamper(small, tmp_path / "c.pt2", first(size, many))
    network = load_exported(path)
    assert network(random_images()).shape == (3, 3)
    with pytest.raises(InputError, match="classifier: the program takes"):
        network(random_images(200))


def test_a_program_may_write_to_what_it_made(tmp_path: Path, small: Path) -> None:
    clone = node("aten.clone.default", "a", self="@p_conv_weight")
    path = tamper(small, tmp_path / "c.pt2", first(clone, node("aten.relu_.default", self="@a")))
    assert load_exported(path)(random_images()).shape == (3, 3)
