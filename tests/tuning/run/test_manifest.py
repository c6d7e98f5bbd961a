import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.image_folders import write_folder
from trainables.data.datasets import load_dataset
from trainables.data.splits import held_out_images
from trainables.models.architectures import DigitsCNN
from trainables.models.classifiers import BaseClassifier
from trainables.models.denoisers import DnCNN
from tuning.certification.subjects import Model, Subject
from tuning.cluster.connection import Cluster
from tuning.cluster.resources import Resources
from tuning.cluster.storage import local_storage
from tuning.config import RunConfig, make_config
from tuning.errors import ConfigError
from tuning.run.manifest import Manifest, read_manifest, setting_manifest
from tuning.setting.setting import Setting, make_settings


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    return make_config({"name": "x", "out": tmp_path, "certify_images": 5, "shots": "3"})


@pytest.fixture
def setting(config: RunConfig) -> Setting:
    (made,) = make_settings(config)
    return made


def start(config: RunConfig, folder: Path) -> Manifest:
    """The manifest of a run that starts, or is resumed."""
    path = folder / "manifest.json"
    cluster = Cluster("local", None, Resources(1, 0.0, 2), local_storage(folder))
    return Manifest(path, config, cluster, read_manifest(path))


def test_a_resumed_run_adds_to_what_its_first_start_recorded(
    config: RunConfig, setting: Setting, tmp_path: Path
) -> None:
    classifier, name = BaseClassifier(DigitsCNN()), setting.name
    first = start(config, tmp_path)
    first.add_setting(setting, classifier)
    assert first.precision(name) is None
    assert first.training_precision(name) is None
    first.record(name, precision="bfloat16", training_precision="float32")
    first.add_seconds(name, "search", 12.0)
    first.add_lost_hosts(["10.0.0.2: gone"])

    second = start(config, tmp_path)
    assert (second.run_id, second.precision(name)) == (first.run_id, "bfloat16")
    second.add_setting(setting, classifier)
    assert second.precision(name) == "bfloat16"
    assert second.training_precision(name) == "float32"
    second.add_seconds(name, "search", 0.5)
    with second.timed(name, "confirmation"):
        pass
    second.add_lost_hosts(["10.0.0.3: gone"])
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert len(written["starts"]) == 2
    assert written["lost_hosts"] == ["10.0.0.2: gone", "10.0.0.3: gone"]
    seconds = written["settings"][name]["seconds"]
    assert seconds == {"search": 12.5, "confirmation": pytest.approx(0, abs=0.5)}


def test_what_was_left_out_of_an_image_folder_is_recorded(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "images")
    (root / "train" / "cat" / "notes.txt").touch()
    given = {"dataset": "folder", "data_dir": root, "certify_images": 6, "shots": "3"}
    config = make_config({"name": "x", "out": tmp_path, **given, "image_size": 4, "channels": 1})
    (setting,) = make_settings(config)
    entry = setting_manifest(setting, BaseClassifier(DigitsCNN()), {})
    assert entry["data_notes"] == [
        "left out 1 file not named like images (.txt)",
        "made 12 images grey",
    ]
    assert entry["image_shape"] == [1, 4, 4]


def test_a_damaged_manifest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    assert read_manifest(path) == {}
    path.write_text('{"seed": ')
    with pytest.raises(ConfigError, match="damaged"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("name", "flag"),
    [
        ("images_hash", "--data-dir"),
        ("classifier_hash", "--classifier"),
    ],
)
def test_resumption_with_something_else_is_refused(setting: Setting, name: str, flag: str) -> None:
    classifier = BaseClassifier(DigitsCNN())
    before: dict[str, Any] = setting_manifest(setting, classifier, {}) | {name: "other"}
    with pytest.raises(ConfigError, match=f"{flag}: .* changed since the run started"):
        setting_manifest(setting, classifier, {"settings": {setting.name: before}})


def subject(*models: Model) -> Subject:
    digits = load_dataset("digits")
    named = dict(zip(("none", "best"), models, strict=False))
    return Subject("digits", digits, held_out_images(digits, 2), named, pixel_steps=0)


def test_a_folder_keeps_the_certificates_of_its_models(config: RunConfig, tmp_path: Path) -> None:
    classifier, foreign = BaseClassifier(DigitsCNN()), BaseClassifier(DigitsCNN())
    denoiser, other = DnCNN(1, 3, 4), DnCNN(1, 3, 5)
    certified = subject(Model(denoiser, 0.25))
    start(config, tmp_path).add_subject(certified, classifier)
    start(config, tmp_path).add_subject(subject(Model(denoiser, 0.25, "file")), classifier)
    before = (tmp_path / "manifest.json").read_bytes()
    for different in (
        subject(Model(denoiser, 0.5)),
        subject(Model(other, 0.25)),
        subject(Model(None, 0.25)),
        subject(Model(denoiser, 0.25), Model(other, 0.25)),
    ):
        with pytest.raises(ConfigError, match=r"--out: .* of models that differ"):
            start(config, tmp_path).add_subject(different, classifier)
    with pytest.raises(ConfigError, match="certificates of classifiers that differ"):
        start(config, tmp_path).add_subject(certified, foreign)
    assert (tmp_path / "manifest.json").read_bytes() == before


def test_a_folder_that_does_not_say_what_it_certified_is_left_alone(
    config: RunConfig, tmp_path: Path
) -> None:
    start(config, tmp_path).record("digits", precision="float32")
    certified = subject(Model(DnCNN(1, 3, 4), 0.25))
    with pytest.raises(ConfigError, match="--out"):
        start(config, tmp_path).add_subject(certified, BaseClassifier(DigitsCNN()))
