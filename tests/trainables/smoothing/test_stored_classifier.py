"""Exports that hold their classifier, and those that say which one to pass."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.support.exports import Constant, rewrite_config
from trainables.errors import InputError
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing import SmoothedClassifier
from trainables.smoothing.export import CONFIG, read_export
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from trainables.weights.checkpoint import weights_hash
from trainables.weights.packed import CLASSIFIER

torch.set_num_threads(1)
SHAPE = (1, 8, 8)
DIGITS = Blueprint("architecture", "digits_cnn")
IMAGE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(1))


def classifier(seed: int = 0, blueprint: Blueprint | None = DIGITS) -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = BaseClassifier(DigitsCNN(), mean=(0.1,), blueprint=blueprint)
    found.fix_head(torch.rand(2, *SHAPE))
    return found


def write(folder: Path, network: nn.Module, **facts: Any) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(DnCNN(1, 3, 4).eval(), network)
    folder.mkdir(exist_ok=True)
    for name, data in export_files(
        model, SHAPE, Noise(0.25), Fixed(50, 500, 0.001), **facts
    ).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def export(tmp_path: Path) -> Path:
    return write(tmp_path / "export", classifier())


def refusal(folder: Path) -> str:
    with pytest.raises(InputError) as told:
        SmoothedClassifier.load(folder)
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_export_alone_certifies_like_the_classifier_that_was_certified(
    tmp_path: Path, precision: str
) -> None:
    folder = write(tmp_path / "export", classifier(), precision=precision)
    alone = SmoothedClassifier.load(folder, seed=3)
    given = SmoothedClassifier.load(folder, classifier(), seed=3)
    for _ in range(3):
        assert alone.certify(IMAGE) == given.certify(IMAGE)
    assert weights_hash(alone.model) == weights_hash(given.model)
    assert (alone.config.precision, alone.config.classifier_kind) == (precision, "architecture")
    assert alone.config.classifier_name == "digits_cnn"


def test_a_classifier_that_is_passed_is_checked_and_the_stored_one_not_read(export: Path) -> None:
    (export / CLASSIFIER).unlink()
    SmoothedClassifier.load(export, classifier())
    with pytest.raises(InputError, match="the export was made for the classifier"):
        SmoothedClassifier.load(export, classifier(1))
    assert f"{CLASSIFIER} is missing" in refusal(export)


@pytest.mark.parametrize("place", [0.0, 0.01, 0.5, 1.0])
def test_a_flipped_bit_in_the_classifier_is_refused(export: Path, place: float) -> None:
    data = bytearray((export / CLASSIFIER).read_bytes())
    data[int(place * (len(data) - 1))] ^= 1
    (export / CLASSIFIER).write_bytes(data)
    assert f"{CLASSIFIER} is damaged, or belongs to a different export" in refusal(export)


def test_the_classifier_of_a_different_export_is_refused(export: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "other", classifier(1))
    shutil.copy(other / CLASSIFIER, export)
    assert f"{CLASSIFIER} is damaged, or belongs to a different export" in refusal(export)
    # Even if the configuration is made to say that it is the right file.
    found = read_export(other).config.classifier_file_hash
    rewrite_config(export, lambda values: values.update(classifier_file_hash=found))
    assert "the export was made for the classifier" in refusal(export)


@pytest.mark.parametrize(
    ("network", "facts", "said"),
    [
        (Constant(), {}, "pass the one that the run used as `classifier`"),
        (classifier(blueprint=None), {}, "pass the one that the run used as `classifier`"),
        (
            classifier(blueprint=Blueprint("factory", "nets:make")),
            {},
            "load_base_classifier(ClassifierSpec('nets:make', weights=FILE), images)",
        ),
        (
            Constant(),
            {"classifier_kind": "endpoint", "classifier_name": "https://x.test/"},
            "HttpClassifier.connect('https://x.test/')",
        ),
        (
            classifier(blueprint=Blueprint("architecture", "resnet18")),
            {},
            "does not hold its classifier",
        ),
        (
            classifier(blueprint=Blueprint("onnx", "/nowhere.onnx")),
            {},
            "does not hold its classifier",
        ),
    ],
    ids=["module", "unknown", "factory", "endpoint", "wrong blueprint", "file is gone"],
)
def test_an_export_without_its_classifier_says_what_to_pass(
    tmp_path: Path, network: nn.Module, facts: dict[str, str], said: str
) -> None:
    folder = write(tmp_path / "export", network, **facts)
    assert not (folder / CLASSIFIER).exists()
    assert said in refusal(folder)
    assert "nowhere" not in (folder / CONFIG).read_text()
    SmoothedClassifier.load(folder, network).predict(IMAGE)


def test_a_blueprint_that_builds_a_different_network_is_not_written(tmp_path: Path) -> None:
    class Scaled(DigitsCNN):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = super().forward(images)  # type: ignore[no-untyped-call]
            return 2 * logits

    folder = write(tmp_path / "export", BaseClassifier(Scaled(), blueprint=DIGITS))
    assert not (folder / CLASSIFIER).exists()


def test_a_classifier_that_would_have_a_different_hash_is_not_written(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        """Computes the same, but its weights have other names, which are read nonetheless."""

        def __init__(self) -> None:
            super().__init__()
            self.module = DigitsCNN()

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = self.module(images)
            return logits

    wrapped = BaseClassifier(Wrapped(), blueprint=DIGITS)
    folder = write(tmp_path / "export", wrapped)
    assert not (folder / CLASSIFIER).exists()
    SmoothedClassifier.load(folder, wrapped)
