"""Denoiser and classifier in other runtimes compute what they compute in PyTorch."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.brought import SIZE, exported, images_of, torchvision
from tests.support.brought import onnx as onnx_classifier
from tests.support.exports import FACTORY, linear_classifier, of_factory, write_export
from tests.support.failing import fails
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import Denoiser, DnCNN, MemNet, UNet
from trainables.smoothing import portable
from trainables.smoothing.export import CONFIG, load_model
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.portable import main, write_portable
from trainables.smoothing.procedures import Fixed
from trainables.weights.exported import load_exported
from trainables.weights.sources import ClassifierSpec, load_base_classifier

torch.set_num_threads(1)


def needs_onnx() -> None:
    for library in ("onnx", "onnxruntime"):
        pytest.importorskip(library, reason="needs the extra onnx")


def run_onnx(file: Path, images: Tensor) -> Tensor:
    runtime: Any = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])


def run_pt2(file: Path, images: Tensor) -> Tensor:
    logits: Tensor = torch.export.load(file).module()(images)
    return logits


RUNS: dict[str, Callable[[Path, Tensor], Tensor]] = {"pt2": run_pt2, "onnx": run_onnx}


def changed(denoiser: Denoiser) -> Denoiser:
    """The denoiser, which removes something."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return denoiser.eval()


def write(folder: Path, denoiser: Denoiser, classifier: nn.Module, shape: Any) -> Path:
    folder.mkdir()
    model = nn.Sequential(changed(denoiser), classifier)
    numbers = Fixed(50, 1000, 0.001)
    files = export_files(model, shape, Noise(0.5), numbers, precision="bfloat16")
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def digits() -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = DigitsCNN()
    return BaseClassifier(
        network, (0.3,), (0.2,), blueprint=Blueprint("architecture", "digits_cnn")
    )


def check_parity(export: Path, file: Path, to: str) -> None:
    _, model = load_model(export, None)
    shape = json.loads((export / CONFIG).read_text())["image_shape"]
    for count in (1, 2, 5):
        images = torch.rand(count, *shape) + 0.5 * torch.randn(count, *shape)
        with torch.no_grad():
            expected = model(images)
        found = RUNS[to](file, images)
        assert torch.allclose(found, expected, rtol=0, atol=1e-4 * float(expected.std()))


@pytest.mark.parametrize("denoiser", [DnCNN(1, 4, 4), MemNet(1, 2, 1, 4), UNet(1, 3, 4)],
                         ids=["dncnn", "memnet", "unet"])  # fmt: skip
@pytest.mark.parametrize("to", RUNS)
def test_every_denoiser_computes_the_same_elsewhere(
    tmp_path: Path, denoiser: Denoiser, to: Any
) -> None:
    if to == "onnx":
        needs_onnx()
    # A height and width that the scales of a UNet do not divide.
    export = write(tmp_path / "export", denoiser, digits(), (1, 9, 10))
    write_portable(export, tmp_path / f"network.{to}", to)
    check_parity(export, tmp_path / f"network.{to}", to)
    assert {path.name for path in tmp_path.iterdir()} == {"export", f"network.{to}"}


@pytest.mark.parametrize("kind", [torchvision, exported, onnx_classifier])
@pytest.mark.parametrize("to", RUNS)
def test_classifiers_of_several_kinds_compute_the_same_elsewhere(
    tmp_path: Path, kind: Callable[[Path], ClassifierSpec], to: Any
) -> None:
    if to == "onnx":
        needs_onnx()
    classifier = load_base_classifier(kind(tmp_path), images_of(1, seed=0)[0])
    export = write(tmp_path / "export", DnCNN(3, 3, 4), classifier, (3, SIZE, SIZE))
    write_portable(export, tmp_path / f"network.{to}", to)
    check_parity(export, tmp_path / f"network.{to}", to)


def test_a_program_can_be_read_without_executing_it_and_knows_its_export(tmp_path: Path) -> None:
    export = write(tmp_path / "export", DnCNN(1, 3, 4), digits(), (1, 8, 8))
    write_portable(export, tmp_path / "c.pt2", "pt2")
    images = torch.rand(3, 1, 8, 8)
    expected = load_model(export, None)[1](images)
    assert torch.allclose(load_exported(tmp_path / "c.pt2")(images), expected, atol=1e-4)
    stored: dict[str, Any] = {CONFIG: ""}
    torch.export.load(tmp_path / "c.pt2", extra_files=stored)
    assert json.loads(stored[CONFIG]) == json.loads((export / CONFIG).read_text())


def test_a_graph_knows_its_export(tmp_path: Path) -> None:
    needs_onnx()
    import onnx

    export = write(tmp_path / "export", DnCNN(1, 3, 4), digits(), (1, 8, 8))
    assert main([str(export), "--to=onnx", f"--out={tmp_path / 'c.onnx'}"]) == 0
    graph = onnx.load(tmp_path / "c.onnx")
    onnx.checker.check_model(graph)
    stored = {prop.key: prop.value for prop in graph.metadata_props}
    assert json.loads(stored[CONFIG]) == json.loads((export / CONFIG).read_text())


def test_a_network_that_computes_something_else_there_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write(tmp_path / "export", DnCNN(1, 3, 4), digits(), (1, 8, 8))
    right = portable._WRITERS["pt2"]

    def wrong(*arguments: Any) -> Callable[[Tensor], Tensor]:
        run = right(*arguments)
        return lambda images: 1.01 * run(images)

    monkeypatch.setitem(portable._WRITERS, "pt2", wrong)
    with pytest.raises(InputError, match="computes something else as pt2"):
        write_portable(export, tmp_path / "c.pt2", "pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["export"]


class Branching(nn.Module):
    """What no exporter can write: its steps depend on the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = linear_classifier()

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(images)
        return logits if images.sum() > 0 else -logits


def test_a_network_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    export = write_export(tmp_path / "export", Branching())
    with pytest.raises(InputError, match="cannot be written as pt2") as told:
        write_portable(export, tmp_path / "c.pt2", "pt2", Branching())
    assert "\n" not in str(told.value)
    assert not (tmp_path / "c.pt2").exists()


def test_the_command_writes_what_it_prints_and_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    export = write_export(tmp_path / "export", of_factory())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(Path(__file__).parents[3])
    assert "--to: is required" in fails(main, capsys, export)
    assert "--to" in fails(main, capsys, export, "--to=tflite")
    assert f"ClassifierSpec('{FACTORY.name}'" in fails(main, capsys, export, "--to=pt2")
    assert "config.json is missing" in fails(main, capsys, tmp_path, "--to=pt2")
    named = f"--classifier={FACTORY.name}"
    assert "--out" in fails(main, capsys, export, "--to=pt2", named, "--out=nowhere/c.pt2")
    missing = fails(main, capsys, export, "--to=pt2", named, "--weights=nowhere.pt")
    assert "nowhere.pt does not exist" in missing
    assert main([str(export), "--to=pt2", named]) == 0
    assert capsys.readouterr().out == "export.pt2\n"
    assert run_pt2(tmp_path / "export.pt2", torch.rand(2, 1, 4, 4)).shape == (2, 3)
    assert "is there already" in fails(main, capsys, export, "--to=pt2", named)
