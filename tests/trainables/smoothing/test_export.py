"""What an export holds, and that nothing else than what was certified is read back."""

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.support.exports import (
    Constant,
    linear_classifier,
    rewrite_config,
    trained_denoiser,
    write_export,
)
from trainables.choices import MOST_PILOT_VOTES, MOST_VOTES
from trainables.data.form import ImageForm
from trainables.errors import InputError
from trainables.models.classifiers import BaseClassifier
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.export import CONFIG, PROBES, read_export
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.probes import QUERIES
from trainables.smoothing.procedures import Adaptive, Tolerance
from trainables.weights.checkpoint import weights_hash
from trainables.weights.denoiser_file import WEIGHTS, denoiser_bytes

torch.set_num_threads(1)
FILES = (WEIGHTS, PROBES, CONFIG)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write_export(tmp_path / "export")


def refusal(folder: Path, classifier: nn.Module | None = None) -> str:
    with pytest.raises(InputError) as caught:
        SmoothedClassifier.load(folder, classifier or linear_classifier())
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def flip(path: Path, place: float, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)


def test_the_configuration_describes_images_numbers_classifier_and_files(export: Path) -> None:
    config = json.loads((export / CONFIG).read_text())
    hashes = {name: config.pop(f"{name}_hash") for name in ("denoiser", "probes", "config")}
    assert config == {
        "schema_version": 8, "origin": "file", "trial": None, "pixel_steps": 0,
        "procedure": "fixed", "tolerance": 0.02, "radii": [],
        "sigma": 0.25, "n0": 50, "n": 1000, "alpha": 0.001, "num_classes": 3,
        "class_names": [], "clean_accuracy": None,
        "image_form": ImageForm().model_dump(),
        "image_shape": [1, 4, 4], "precision": "float32",
        "classifier_kind": "module", "classifier_name": "", "classifier_file_hash": None,
        "classifier_hash": weights_hash(linear_classifier()),
    }  # fmt: skip
    assert len(set(hashes.values())) == 3
    assert all(len(found) == 64 for found in hashes.values())


@pytest.mark.parametrize(
    "procedure", [Tolerance(50, 1000, 0.001, 0.05), Adaptive(50, 5000, 0.01, (0.0, 0.1))]
)
def test_what_is_exported_is_read_back(tmp_path: Path, procedure: Tolerance | Adaptive) -> None:
    folder = write_export(tmp_path, procedure=procedure, noise=Noise(0.5))
    found = read_export(folder)
    assert found.config.noise == Noise(0.5)
    assert found.config.certificates() == procedure
    assert weights_hash(found.denoiser) == weights_hash(trained_denoiser())


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize("place", [0.0, 0.3, 0.6, 0.9, 1.0])
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_refused_and_its_file_is_named(
    export: Path, name: str, place: float, bit: int
) -> None:
    flip(export / name, place, bit)
    said = refusal(export)
    assert name in said
    assert "damaged" in said or "changed" in said


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_a_different_export_is_refused_and_named(
    export: Path, tmp_path: Path, name: str
) -> None:
    other = write_export(tmp_path / "other", linear_classifier(7), seed=7)
    SmoothedClassifier.load(other, linear_classifier(7))
    shutil.copy(other / name, export / name)
    assert f"{name} is damaged, or belongs to a different export" in refusal(export)


@pytest.mark.parametrize(
    "change", [{"sigma": 0.5}, {"sigma": 0.2500001}, {"alpha": 0.1}, {"n": 10}, {"pixel_steps": 1},
               {"precision": "bfloat16"}, {"procedure": "tolerance"}, {"num_classes": 4},
               {"trial": 3}, {"config_hash": "0" * 64}], ids=str,
)  # fmt: skip
def test_a_configuration_that_was_edited_is_refused(
    export: Path, change: dict[str, object]
) -> None:
    values = json.loads((export / CONFIG).read_text())
    (export / CONFIG).write_text(json.dumps(values | change))
    assert f"{CONFIG} was changed" in refusal(export)


@pytest.mark.parametrize(
    "change", [{"sigma": 0.5}, {"num_classes": 4}, {"image_shape": [3, 4, 4]},
               {"image_shape": [1, 4, 5]}], ids=str,
)  # fmt: skip
def test_a_configuration_that_contradicts_the_denoiser_or_the_probes_is_refused(
    export: Path, change: dict[str, object]
) -> None:
    rewrite_config(export, lambda config: config.update(change))
    assert "but the denoiser and probes are not" in refusal(export)


def test_another_layout_of_the_same_configuration_is_the_same(export: Path) -> None:
    values = json.loads((export / CONFIG).read_text())
    (export / CONFIG).write_text(json.dumps(dict(reversed(values.items()))))
    assert SmoothedClassifier.load(export, linear_classifier()).config.sigma == 0.25


@pytest.mark.parametrize("version", [1, 4, 7])
def test_an_export_of_an_earlier_version_is_refused_because_it_cannot_be_checked(
    export: Path, version: int
) -> None:
    values = json.loads((export / CONFIG).read_text())
    for name in ("denoiser_hash", "probes_hash", "config_hash"):
        del values[name]
    (export / CONFIG).write_text(json.dumps(values | {"schema_version": version}))
    said = refusal(export)
    assert f"earlier version (schema {version})" in said
    assert "export it again" in said


@pytest.mark.parametrize("name", FILES)
def test_an_incomplete_export_is_refused(export: Path, name: str) -> None:
    (export / name).unlink()
    assert f"{name} is missing" in refusal(export)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    assert "nowhere" in refusal(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"7", b'{"sigma": 0.25}', b'{"schema_version": []}', b"\xff\xfe\x00"],
    ids=["empty", "half", "list", "number", "incomplete", "nested", "binary"],
)
def test_a_damaged_configuration_is_refused(export: Path, data: bytes) -> None:
    (export / CONFIG).write_bytes(data)
    assert f"{CONFIG} is damaged" in refusal(export)


@pytest.mark.parametrize(
    "change",
    [{"unknown": 1}, {"sigma": None}, {"sigma": float("inf")}, {"sigma": 5}, {"sigma": 0},
     {"image_shape": [4, 4]}, {"schema_version": 9}, {"schema_version": "8"},
     {"procedure": "adaptive"}, {"procedure": "other"},
     {"n": 0}, {"n": MOST_VOTES + 1}, {"n0": 0}, {"n0": MOST_PILOT_VOTES + 1}, {"n": 1.5},
     {"alpha": 0}, {"alpha": 1}, {"alpha": float("nan")}, {"tolerance": 0},
     {"tolerance": float("inf")}, {"radii": [float("inf")]}, {"radii": [-0.1]},
     {"radii": [float("nan")]}, {"radii": [0.0] * 1001}, {"pixel_steps": -1},
     {"pixel_steps": 256}, {"num_classes": 1}, {"class_names": ["a", "b"]},
     {"clean_accuracy": {"right": 1}}, {"classifier_hash": "x"}],
    ids=str,
)  # fmt: skip
def test_a_configuration_out_of_range_is_refused(export: Path, change: dict[str, object]) -> None:
    values = json.loads((export / CONFIG).read_text())
    (export / CONFIG).write_text(json.dumps(values | change))
    assert f"{CONFIG} is damaged" in refusal(export)


@pytest.mark.parametrize("kept", [0, 10, 200, -1])
def test_damaged_weights_are_refused(export: Path, kept: int) -> None:
    (export / WEIGHTS).write_bytes((export / WEIGHTS).read_bytes()[:kept])
    assert f"{WEIGHTS} is damaged" in refusal(export)


def sealed_with(name: str, data: bytes) -> Callable[[dict[str, Any]], None]:
    field = {WEIGHTS: "denoiser_hash", PROBES: "probes_hash"}[name]
    return lambda config: config.update({field: hashlib.sha256(data).hexdigest()})


@pytest.mark.parametrize("name", [WEIGHTS, PROBES])
def test_a_file_that_holds_something_else_is_refused_although_its_hash_is_right(
    export: Path, name: str
) -> None:
    for data in (b"", b"\x10" + bytes(40), denoiser_bytes(trained_denoiser())):
        (export / name).write_bytes(data)
        rewrite_config(export, sealed_with(name, data))
        refusal(export)


class Weighted(BaseClassifier):
    """The linear classifier of the export, in a module that is compared by its weights."""

    def __init__(self, seed: int = 1, mean: float = 0.0) -> None:
        super().__init__(linear_classifier(seed), mean=(mean,))


class Renamed(nn.Module):
    """The linear classifier of the export, as somebody else would write it."""

    def __init__(self, seed: int = 1, scale: float = 1.0, classes: int = 3) -> None:
        super().__init__()
        self.weights = linear_classifier(seed).get_parameter("1.weight")[:classes].detach()
        self.scale = scale

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.scale * images.flatten(1) @ self.weights.T
        return logits


def test_the_same_classifier_is_accepted_whatever_its_weights_are_called(export: Path) -> None:
    for classifier in (linear_classifier(), Renamed()):
        assert SmoothedClassifier.load(export, classifier).certify(torch.rand(1, 4, 4)).n == 1000


@pytest.mark.parametrize(
    ("classifier", "said"),
    [
        (linear_classifier(2), "not the classifier that was certified: on the probe images"),
        (Constant(), "not the classifier that was certified: on the probe images"),
        (Renamed(scale=1.01), "not the classifier that was certified: on the probe images"),
        (Renamed(classes=2), "it has 2 classes, not 3"),
        (nn.Conv2d(3, 4, 1), r"fails on images of shape \(1, 4, 4\): RuntimeError"),
        (nn.Conv2d(1, 3, 4, bias=False), "not logits"),
        (Weighted(), "the export was made for the classifier"),
    ],
    ids=["weights", "constant", "scale", "classes", "channels", "shape", "names"],
)
def test_a_foreign_classifier_is_refused(export: Path, classifier: nn.Module, said: str) -> None:
    assert re.search(said, refusal(export, classifier))


@pytest.mark.parametrize("foreign", [Weighted(seed=2), Weighted(mean=0.5)], ids=["seed", "mean"])
def test_a_classifier_with_weights_is_compared_exactly(tmp_path: Path, foreign: Weighted) -> None:
    folder = write_export(tmp_path, Weighted())
    SmoothedClassifier.load(folder, Weighted())
    assert weights_hash(Weighted())[:12] in refusal(folder, foreign)
    barely = Weighted()
    barely.get_parameter("network.1.weight").view(torch.int32)[0, 0] ^= 1
    assert weights_hash(barely)[:12] in refusal(folder, barely)


def test_a_denoiser_that_computes_something_else_is_refused(
    export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = type(trained_denoiser()).noise
    monkeypatch.setattr(type(trained_denoiser()), "noise", lambda self, x: 1.01 * noise(self, x))
    assert "the denoiser computes something else" in refusal(export)


def test_a_classifier_is_asked_few_times_at_export_and_at_loading(tmp_path: Path) -> None:
    asked: list[int] = []
    classifier = linear_classifier()
    classifier.register_forward_pre_hook(lambda _, inputs: asked.append(len(inputs[0])))
    model = nn.Sequential(trained_denoiser(), classifier)
    for name, data in export_files(model, (1, 4, 4), Noise(0.25), Tolerance(9, 99, 0.1, 1)).items():
        (tmp_path / name).write_bytes(data)
    assert asked == [QUERIES] == [8]
    SmoothedClassifier.load(tmp_path, classifier)
    assert asked == [QUERIES] * 2
