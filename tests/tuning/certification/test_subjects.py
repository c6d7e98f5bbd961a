"""What is certified again: models, and the classifier that an export was made for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from trainables.data.datasets import load_dataset
from trainables.data.form import ImageForm
from trainables.models.architectures import DigitsCNN
from trainables.models.blueprint import Blueprint
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from trainables.smoothing.export import CONFIG, read_export
from trainables.smoothing.exporting import export_files
from trainables.smoothing.noise import Noise
from trainables.smoothing.procedures import Fixed
from trainables.weights.checkpoint import weights_hash
from tuning.certification.subjects import (
    Model,
    configuration_of_export,
    subject_of_export,
    subject_of_file,
)
from tuning.certify import main as certify
from tuning.config import RunConfig, make_config
from tuning.errors import ConfigError
from tuning.setting.classifier import check_classifier

torch.set_num_threads(1)


def classifier(seed: int) -> BaseClassifier:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BaseClassifier(DigitsCNN())


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return make_config({"name": "x", "out": tmp_path, "certify_images": 2})


@pytest.fixture
def export(tmp_path: Path) -> Path:
    model = nn.Sequential(DnCNN(1, 3, 4).eval(), classifier(1))
    files = export_files(
        model, (1, 8, 8), Noise(0.3, 16), Fixed(9, 99, 0.1), precision="bfloat16", origin="mse"
    )
    folder = tmp_path / "export"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_an_export_is_certified_as_it_says_and_only_with_its_classifier(
    config: RunConfig, export: Path
) -> None:
    found = read_export(export)
    form = ImageForm().model_dump()
    assert configuration_of_export(export, found) == {"noise": "quantised", **form}
    subject = subject_of_export(config, export, found, None)
    assert (subject.precision, subject.models["best"].origin) == ("bfloat16", "mse")
    assert subject.models["best"].sigma == 0.3
    subject.check_classifier(classifier(1))
    with pytest.raises(
        ConfigError, match="--classifier: the export was made for the classifier"
    ) as told:
        subject.check_classifier(classifier(2))
    assert weights_hash(classifier(2))[:12] in str(told.value)


def test_an_export_is_certified_with_the_classifier_in_it(tmp_path: Path) -> None:
    known = classifier(1)
    known.blueprint = Blueprint("architecture", "digits_cnn")
    model = nn.Sequential(DnCNN(1, 3, 4).eval(), known)
    for name, content in export_files(model, (1, 8, 8), Noise(0.3), Fixed(9, 99, 0.1)).items():
        (tmp_path / name).write_bytes(content)
    values = configuration_of_export(tmp_path, read_export(tmp_path))
    assert values["classifier"] == str(tmp_path)
    config = make_config({"name": "x", "out": tmp_path, "certify_images": 2, **values})
    dataset = load_dataset("digits")
    found = check_classifier(config, dataset, dataset.test.load(range(2)))
    assert found is not None
    assert weights_hash(found) == weights_hash(known)


def test_an_export_is_certified_only_under_its_own_noise(config: RunConfig, export: Path) -> None:
    found = read_export(export)
    assert subject_of_export(config, export, found, 0.3).models["best"].sigma == 0.3
    with pytest.raises(ConfigError, match=r"--sigma: .*export was trained for 0\.3"):
        subject_of_export(config, export, found, 0.6)


def test_an_export_whose_configuration_was_edited_is_not_certified(
    export: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (export / CONFIG).read_text()
    (export / CONFIG).write_text(text.replace('"sigma": 0.3', '"sigma": 0.6'))
    assert certify([str(export), f"--out={tmp_path / 'out'}", "--dataset=digits"]) == 2
    assert "was changed after it was written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_denoiser_file_is_certified_with_any_classifier(config: RunConfig, export: Path) -> None:
    subject = subject_of_file(config, export / "denoiser.safetensors", None)
    for seed in (1, 2):
        subject.check_classifier(classifier(seed))


def test_models_differ_by_denoiser_and_sigma() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = DnCNN(1, 3, 4), DnCNN(1, 3, 4)
    models = [Model(one, 0.25), Model(other, 0.25), Model(one, 0.5), Model(None, 0.25)]
    identities = [model.identity for model in models]
    assert all(identities.count(identity) == 1 for identity in identities)
    assert Model(one, 0.25, "file", 3).identity == identities[0]
